/* System calls that fail: preloaded before libc, armed by the program itself. Only files below one folder are touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, FSYNC, RENAME };
static char folder[4096];
static int armed, kind, number, lasting;
static long at, seen[3];

/* Count calls below `folder`; the `at`th of `kind` fails with `number`, and if lasting all after it. at = 0: none. */
void torture_arm(const char *below, int which, long k, int error, int for_good) {
    strncpy(folder, below, sizeof folder - 1);
    armed = 1, kind = which, at = k, number = error, lasting = for_good;
    memset(seen, 0, sizeof seen);
}

long torture_seen(int which) { return seen[which]; }

static int below(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int fails(int which, int here) {
    if (!here) return 0;
    seen[which]++;
    return which == kind && at && (seen[which] == at || (lasting && seen[which] > at));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    if (armed && fails(WRITE, below(fd))) {
        if (lasting && seen[WRITE] == at && size > 1) return REAL(write)(fd, data, size / 2); /* a disk that gets full */
        errno = number;
        return -1;
    }
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (armed && fails(WRITE, below(fd))) { errno = number; return -1; }
    return REAL(writev)(fd, parts, count);
}

int fsync(int fd) {
    if (armed && fails(FSYNC, below(fd))) { errno = number; return -1; }
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    if (armed && fails(FSYNC, below(fd))) { errno = number; return -1; }
    return REAL(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    if (armed && fails(RENAME, strncmp(from, folder, strlen(folder)) == 0)) { errno = number; return -1; }
    return REAL(rename)(from, to);
}
