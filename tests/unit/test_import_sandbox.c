/* Tests of the importer's sandbox: what is left to a process that has closed it, and what is not. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/train/import/import.h"

enum { FILE_BYTES = 1 << 16, SKIPPED = 77 };

static char folder[] = "/tmp/residuum-sandbox-XXXXXX";
static char source[64], out[64], other[64];

static void write_file(const char *dir, const char *name) {
    struct err err = {0};
    assert_int_equal(file_write(dir, name, &(struct iovec){(void *)"data", 4}, 1, &err), 0);
}

static int make_folders(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(source, sizeof source, "%s/source", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    if (mkdir(source, 0700) != 0 || mkdir(out, 0700) != 0 || mkdir(other, 0700) != 0)
        return -1;
    write_file(source, "file");
    write_file(other, "file");
    return 0;
}

static int remove_folders(void **state) {
    (void)state;
    return file_remove_tree(folder, NULL);
}

/* Runs attempt in a process behind the sandbox: 0 when it was refused as it should be. */
static int behind(int (*attempt)(const struct import_protection *protection)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct import_protection protection;
        struct err err = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (import_sandbox(source, out, FILE_BYTES, &protection, &err) != 0) {
            fprintf(stderr, "%s\n", err.text);
            _exit(99);
        }
        _exit(attempt(&protection));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_refused(int (*attempt)(const struct import_protection *)) {
    int code = behind(attempt);
    if (code == SKIPPED)
        skip();
    assert_int_equal(code, 0);
}

/* --- the file system --- */

static int open_in(const char *dir, const char *name, int flags) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, flags, 0600);
    return fd >= 0 ? 0 : errno;
}

static int reach_files(const struct import_protection *p) {
    if (p->landlock == 0)
        return SKIPPED;
    if (open_in(other, "file", O_RDONLY) != EACCES || open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
        return 1;
    if (open_in(source, "file", O_WRONLY) != EACCES || open_in(source, "new", O_WRONLY | O_CREAT) != EACCES)
        return 2;
    if (open_in(other, "new", O_WRONLY | O_CREAT) != EACCES || open_in(source, "../other/file", O_RDONLY) != EACCES)
        return 3;
    return 0;
}

static int use_what_is_left(const struct import_protection *p) {
    (void)p;
    struct err err = {0};
    if (open_in(source, "file", O_RDONLY) != 0)
        return 1;
    return file_write(out, "result", &(struct iovec){(void *)"data", 4}, 1, &err) == 0 ? 0 : 2;
}

static void files_beside_source_and_out_are_out_of_reach(void **state) {
    (void)state;
    assert_refused(reach_files);
}

static void source_is_read_and_out_is_written(void **state) {
    (void)state;
    assert_int_equal(behind(use_what_is_left), 0);
}

/* --- system calls --- */

static int denied(long rc) {
    return rc == -1 && errno == EPERM ? 0 : 1;
}

static int use_network(const struct import_protection *p) {
    if (!p->seccomp)
        return SKIPPED;
    return denied(socket(AF_INET, SOCK_STREAM, 0)) | denied(socket(AF_UNIX, SOCK_STREAM, 0)) |
           denied(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int start_programs(const struct import_protection *p) {
    if (!p->seccomp)
        return SKIPPED;
    char *argv[] = {(char *)"true", NULL};
    return denied(execv("/bin/true", argv)) | denied(fork()) | denied(syscall(SYS_execveat, -1, "/bin/true", argv, NULL, 0));
}

static int reach_others(const struct import_protection *p) {
    if (!p->seccomp)
        return SKIPPED;
    return denied(kill(getppid(), 0)) | denied(syscall(SYS_ptrace, 0, 0, 0, 0)) | denied(syscall(SYS_process_vm_readv, 1)) |
           denied(syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, NULL)) | denied(syscall(SYS_mount, "", "", "", 0, ""));
}

static int change_itself(const struct import_protection *p) {
    if (!p->seccomp)
        return SKIPPED;
    return denied(setuid(12345)) | denied(chdir("/")) | denied(syscall(SYS_memfd_create, "x", 0)) |
           denied(syscall(SYS_bpf, 0, 0, 0)) | denied(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static void *thread(void *arg) {
    *(int *)arg = socket(AF_INET, SOCK_STREAM, 0) < 0 ? 0 : 1;
    return NULL;
}

/* Threads may be started, and are behind the same walls. */
static int start_thread(const struct import_protection *p) {
    pthread_t id;
    int result = 1;
    if (!p->seccomp)
        return SKIPPED;
    if (pthread_create(&id, NULL, thread, &result) != 0)
        return 2;
    pthread_join(id, NULL);
    return result;
}

static void there_is_no_network(void **state) {
    (void)state;
    assert_refused(use_network);
}

static void no_program_is_started(void **state) {
    (void)state;
    assert_refused(start_programs);
}

static void other_processes_are_out_of_reach(void **state) {
    (void)state;
    assert_refused(reach_others);
}

static void it_stays_what_it_is(void **state) {
    (void)state;
    assert_refused(change_itself);
}

static void threads_are_in_it_too(void **state) {
    (void)state;
    assert_refused(start_thread);
}

/* --- limits --- */

static int exceed(const struct import_protection *p) {
    (void)p;
    struct rlimit core, files, processes;
    char path[128];
    static char bytes[FILE_BYTES + 1];
    snprintf(path, sizeof path, "%s/large", out);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || write(fd, bytes, sizeof bytes) != FILE_BYTES || write(fd, bytes, 1) != -1 || errno != EFBIG)
        return 1;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max > 64)
        return 2;
    if (getrlimit(RLIMIT_NPROC, &processes) != 0 || processes.rlim_max > 4096)
        return 4;
    while ((fd = open(path, O_RDONLY)) >= 0)
        if (fd > 64)
            return 3;
    return 0;
}

static void limits_hold(void **state) {
    (void)state;
    assert_int_equal(behind(exceed), 0);
}

static int tell(const struct import_protection *p) {
    FILE *status = fopen("/proc/self/status", "re");
    if (p->landlock > 0 && status != NULL)
        return 1; /* /proc is a file system like any other */
    return p->no_new_privileges ? 0 : 2;
}

static void what_is_active_is_told(void **state) {
    (void)state;
    assert_int_equal(behind(tell), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_beside_source_and_out_are_out_of_reach),
        cmocka_unit_test(source_is_read_and_out_is_written),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(no_program_is_started),
        cmocka_unit_test(other_processes_are_out_of_reach),
        cmocka_unit_test(it_stays_what_it_is),
        cmocka_unit_test(threads_are_in_it_too),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(what_is_active_is_told),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
