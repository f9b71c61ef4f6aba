/* main.c: the program that is killed, and recorded, and whose calls fail.
 *
 *     subject MODE DIR [unsynced]
 *
 * See subject.h, which has the exit status as well. */
#include "subject.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    int rc = 2;
    if (argc == 3 || (argc == 4 && strcmp(argv[3], "unsynced") == 0)) {
        rc = subject_do(argv[1], argv[2], argc == 4);
    }
    if (rc == 2) {
        fprintf(stderr, "usage: subject MODE DIR [unsynced]\n");
    }
    return rc;
}
