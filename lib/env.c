#include "config.h"

#include "env.h"

#include <uv.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static uint64_t env_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return -1;
}

/* The kernel gives a UUID as text. */
static void env_boot_id(uint8_t id[BOOT_ID_BYTES])
{
    char text[64];
    unsigned digits = 0;
    memset(id, 0, BOOT_ID_BYTES);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    for (ssize_t i = 0; i < n && digits < 2 * BOOT_ID_BYTES; i++) {
        int digit = hex_digit(text[i]);
        if (digit >= 0) {
            id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | digit);
            digits++;
        }
    }
}

static uint64_t env_free_bytes(const char *path)
{
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) {
        return UINT64_MAX;
    }
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* A step of splitmix64 from where the clock stands: fit to spread retries. */
static uint64_t env_random(void)
{
    static _Atomic uint64_t state;
    uint64_t z =
        atomic_fetch_add(&state, UINT64_C(0x9e3779b97f4a7c15)) + uv_hrtime();
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool env_copies_on_write(int fd)
{
    static const uint32_t copying[] = {0x9123683e /* btrfs */,
                                       0xca451a4e /* bcachefs */,
                                       0x2fc12fc1 /* zfs */};
    struct statfs fs;
    if (fstatfs(fd, &fs) == 0) {
        for (size_t i = 0; i < sizeof copying / sizeof copying[0]; i++) {
            if ((uint32_t)fs.f_type == copying[i]) {
                return true;
            }
        }
    }
    return false;
}

struct env dassie__env = {env_wall_ms,    uv_hrtime,  env_boot_id,
                          env_free_bytes, env_random, env_copies_on_write};
