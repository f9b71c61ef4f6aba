/* tree.h: a directory with all that is in it goes. */
#ifndef DASSIE_TEST_TREE_H_
#define DASSIE_TEST_TREE_H_

#include <ftw.h>
#include <stdio.h>

static inline int tree_remove_one(const char *path, const struct stat *st,
                                  int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* 0 if nothing is left of it. */
static inline int tree_remove(const char *path)
{
    return nftw(path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif /* DASSIE_TEST_TREE_H_ */
