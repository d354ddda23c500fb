/* A quota for one folder, laid under a server that is started with this library as LD_PRELOAD.
 *
 * Quotas of a real file system need one that has them, the right to mount it, and a kernel built for it; this needs a
 * compiler. What the server's process gets is what a kernel gives: a write that does not fit is short, and one of which
 * nothing fits ends with EDQUOT. Files in FOLDER (a macro, as are the others) may be BYTES long together.
 *
 * Samba calls a quota STATUS_DISK_FULL on the wire, for the sake of Windows programs. With STATUS defined, it says that
 * instead, as other servers do.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int is_inside(int fd)
{
    char link[64], path[PATH_MAX];
    size_t length = strlen(FOLDER);

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, sizeof path - 1);
    if (got < 0)
        return 0;
    path[got] = 0;
    return strncmp(path, FOLDER, length) == 0 && path[length] == '/';
}

static off_t used(void)
{
    struct dirent *entry;
    struct stat stat;
    off_t sum = 0;
    DIR *folder = opendir(FOLDER);

    if (folder == NULL)
        return BYTES;
    while ((entry = readdir(folder)) != NULL)
        if (fstatat(dirfd(folder), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(stat.st_mode))
            sum += stat.st_size;
    closedir(folder);
    return sum;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off_t) =
        (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    struct stat stat;

    if (!is_inside(fd) || fstat(fd, &stat) != 0)
        return next(fd, data, length, offset);
    pthread_mutex_lock(&one_at_a_time);
    off_t room = stat.st_size + BYTES - used(); /* as far as this file may reach */
    ssize_t written = -1;
    errno = EDQUOT;
    if (offset + (off_t)length <= stat.st_size || offset + (off_t)length <= room)
        written = next(fd, data, length, offset);
    else if (offset < room)
        written = next(fd, data, room - offset, offset);
    pthread_mutex_unlock(&one_at_a_time);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    return pwrite(fd, data, length, offset);
}

#ifdef STATUS
uint32_t map_nt_error_from_unix(int error) /* Samba's own: its NTSTATUS is passed as a number of 32 bits */
{
    uint32_t (*next)(int) = (uint32_t (*)(int))dlsym(RTLD_NEXT, "map_nt_error_from_unix");

    return error == EDQUOT ? STATUS : next(error);
}
#endif
