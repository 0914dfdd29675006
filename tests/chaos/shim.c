/* What a process sees of a machine that fails: loaded in front of the C library (LD_PRELOAD), it lets the calls
 * through and spoils those that the laboratory names in a page that both have mapped. It needs no privilege, and can
 * do what a mount or a quota can't: make an fsync fail, and step the clock of one process.
 *
 * Only what lies below the directory CHAOS_DIRECTORY is spoiled on disk; of clocks only the one that a person, or NTP,
 * can set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The same numbers as in machine.rs. */
enum disk { DISK_SOUND = 0, DISK_FULL = 1, DISK_SYNC_FAILS = 2, DISK_READ_ONLY = 3 };

struct page {
    _Atomic int64_t clock_ahead_seconds;
    _Atomic int64_t disk;
    _Atomic int64_t names_gone; /* a bit for each storm */
};

static struct page sound;
static struct page *page = &sound;
static const char *directory = "";

__attribute__((constructor)) static void map_page(void) {
    const char *path = getenv("CHAOS_PAGE");
    const char *spoiled = getenv("CHAOS_DIRECTORY");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || !spoiled) {
        /* A laboratory that spoils nothing would prove nothing. */
        static const char said[] = "chaos: no page, or no directory\n";
        if (write(STDERR_FILENO, said, sizeof said - 1)) {}
        _exit(111);
    }
    close(fd);
    page = mapped;
    directory = spoiled;
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }
#define NEXT(type, name, arguments) \
    static type(*_Atomic known) arguments; \
    type(*real) arguments = atomic_load(&known); \
    if (!real) { \
        real = (type(*) arguments)next(name); \
        atomic_store(&known, real); \
    }

static int is_spoiled_path(const char *path) { return strncmp(path, directory, strlen(directory)) == 0; }

static int is_spoiled(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_spoiled_path(path);
}

static int64_t disk(void) { return atomic_load(&page->disk); }

static int refuse(int error) {
    errno = error;
    return -1;
}

/* The clock. */

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = (int)syscall(SYS_clock_gettime, clock, time);
    if (done == 0 && clock == CLOCK_REALTIME) time->tv_sec += atomic_load(&page->clock_ahead_seconds);
    return done;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* The resolver. */

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found) {
    NEXT(int, "getaddrinfo",
         (const char *restrict, const char *restrict, const struct addrinfo *restrict, struct addrinfo **restrict))
    /* The intake of a storm, as machine.rs calls it. */
    int storm;
    if (node && sscanf(node, "storm-%1d.", &storm) == 1) {
        if (atomic_load(&page->names_gone) >> storm & 1) return EAI_AGAIN;
        node = "localhost";
    }
    return real(node, service, hints, found);
}

/* The disk. */

static int is_opened_to_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

static int spoil_open(const char *path, int flags) {
    return disk() == DISK_READ_ONLY && is_opened_to_write(flags) && is_spoiled_path(path);
}

static mode_t mode_of(int flags, va_list rest) { return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        if (spoil_open(path, flags)) return refuse(EROFS); \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
    if (disk() == DISK_READ_ONLY && is_spoiled_path(path)) return refuse(EROFS);
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int rename(const char *from, const char *to) {
    if (disk() == DISK_READ_ONLY && is_spoiled_path(to)) return refuse(EROFS);
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    if (disk() == DISK_READ_ONLY && is_spoiled_path(path)) return refuse(EROFS);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int spoil_truncate(int fd) { return disk() == DISK_READ_ONLY && is_spoiled(fd); }

int ftruncate(int fd, off_t length) {
    return spoil_truncate(fd) ? refuse(EROFS) : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length) {
    return spoil_truncate(fd) ? refuse(EROFS) : (int)syscall(SYS_ftruncate, fd, length);
}

static int spoil_sync(int fd) { return disk() == DISK_SYNC_FAILS && is_spoiled(fd); }

int fsync(int fd) { return spoil_sync(fd) ? refuse(EIO) : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return spoil_sync(fd) ? refuse(EIO) : (int)syscall(SYS_fdatasync, fd); }

/* A full disk takes a part of what makes a file longer, and then nothing; what lies within it can be written over.
 * Says how many bytes may be written: all of them, a part, or -1 with errno set. */
static ssize_t room(int fd, off64_t from, size_t bytes) {
    static atomic_uint turn;
    if (disk() == DISK_SOUND || disk() == DISK_SYNC_FAILS || !is_spoiled(fd)) return (ssize_t)bytes;
    if (disk() == DISK_READ_ONLY) return refuse(EROFS);
    struct stat now;
    if (fstat(fd, &now) != 0) return -1;
    if (from >= 0 && from + (off64_t)bytes <= now.st_size) return (ssize_t)bytes;
    if (bytes > 1 && atomic_fetch_add(&turn, 1) % 2 == 0) return (ssize_t)(bytes / 2);
    return refuse(ENOSPC);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t taken = room(fd, -1, count);
    return taken < 0 ? -1 : syscall(SYS_write, fd, bytes, (size_t)taken);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += pieces[i].iov_len;
    ssize_t taken = room(fd, -1, bytes);
    if (taken < 0) return -1;
    if ((size_t)taken == bytes) return syscall(SYS_writev, fd, pieces, count);
    /* As much of the first piece that is not empty as fits. */
    int first = 0;
    while (first + 1 < count && pieces[first].iov_len == 0) first++;
    size_t part = pieces[first].iov_len < (size_t)taken ? pieces[first].iov_len : (size_t)taken;
    return syscall(SYS_write, fd, pieces[first].iov_base, part);
}

static ssize_t write_at(int fd, const void *bytes, size_t count, off64_t offset) {
    ssize_t taken = room(fd, offset, count);
    return taken < 0 ? -1 : syscall(SYS_pwrite64, fd, bytes, (size_t)taken, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return write_at(fd, bytes, count, offset); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return write_at(fd, bytes, count, offset);
}
