#include "config.h"

#include "freeze.h"

#include "bench.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IMAGE_BYTES "1500M"

static int mount_fd = -1; /* the file system's root; -1: none */
static uv_thread_t thread;
static unsigned freeze_ms;
static atomic_bool held; /* fdatasync() waits */

int fdatasync(int fd)
{
    while (atomic_load(&held)) {
        usleep(1000);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* The mount goes with the process, as its name space does. */
static bool mount_own(const char *dir)
{
    char command[4096];
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return false;
    }
    snprintf(command, sizeof command,
             "(truncate -s " IMAGE_BYTES
             " '%s.image' && "
             "mkfs.ext4 -q '%s.image' && mount -o loop '%s.image' '%s') "
             "2>/dev/null",
             dir, dir, dir, dir);
    return system(command) == 0;
}

bool freeze_prepare(const char *dir)
{
    if (mkdir(dir, 0755) != 0) {
        die(dir, UV_EIO);
    }
    if (mount_own(dir)) {
        mount_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return mount_fd >= 0;
}

static void thaw_later(void *arg)
{
    (void)arg;
    usleep(freeze_ms * 1000);
    if (mount_fd >= 0 && ioctl(mount_fd, FITHAW, 0) != 0) {
        die("thaw", UV_EIO);
    }
    atomic_store(&held, false);
}

void freeze_begin(unsigned ms)
{
    freeze_ms = ms;
    if (mount_fd >= 0) {
        if (ioctl(mount_fd, FIFREEZE, 0) != 0) {
            die("freeze", UV_EIO);
        }
    } else {
        atomic_store(&held, true);
    }
    if (uv_thread_create(&thread, thaw_later, NULL) != 0) {
        die("the thread that thaws", UV_EAGAIN);
    }
}

void freeze_end(void)
{
    uv_thread_join(&thread);
}
