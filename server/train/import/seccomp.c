/* A list of system calls as a program of classic BPF: seccomp(2). The Landlock rules say which files openat may reach. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "server/train/import/sandbox.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "seccomp.c: name this processor's AUDIT_ARCH"
#endif

/* What libarchive, libpng, libjpeg, glibc's memory, threads and files need; clone and prlimit64 are looked at below. x86-64 has
 * some older calls besides that glibc still uses. sigaltstack is for the sanitizers. */
static const uint16_t allowed[] = {
    SYS_read,           SYS_write,         SYS_readv,           SYS_writev,          SYS_pread64,
    SYS_pwrite64,       SYS_lseek,         SYS_close,           SYS_openat,          SYS_fstat,
    SYS_newfstatat,     SYS_statx,         SYS_getdents64,      SYS_ftruncate,       SYS_fsync,
    SYS_fdatasync,      SYS_renameat,      SYS_renameat2,       SYS_unlinkat,        SYS_fcntl,
    SYS_ppoll,          SYS_mmap,          SYS_munmap,          SYS_mremap,          SYS_mprotect,
    SYS_madvise,        SYS_brk,           SYS_futex,           SYS_set_robust_list, SYS_rseq,
    SYS_rt_sigprocmask, SYS_rt_sigaction,  SYS_rt_sigreturn,    SYS_restart_syscall, SYS_exit,
    SYS_exit_group,     SYS_clock_gettime, SYS_clock_nanosleep, SYS_gettimeofday,    SYS_sched_getaffinity,
    SYS_sched_yield,    SYS_getpid,        SYS_gettid,          SYS_getrandom,       SYS_sigaltstack,
#if defined(__x86_64__)
    SYS_open,           SYS_stat,          SYS_lstat,           SYS_rename,          SYS_unlink,
    SYS_poll,           SYS_time,
#endif
};
enum { ALLOWED = sizeof allowed / sizeof allowed[0], HEAD = 6, TAIL = 10, PROGRAM = HEAD + 2 * ALLOWED + TAIL };

#define STATEMENT(code, k) ((struct sock_filter){(code), 0, 0, (k)})
#define JUMP(code, k, yes, no) ((struct sock_filter){(code), (yes), (no), (k)})
#define LOAD(field) STATEMENT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) STATEMENT(BPF_RET | BPF_K, (what))
#define FAIL(number) RETURN(SECCOMP_RET_ERRNO | (number))

/* Another architecture's calls have other numbers: whoever makes one is up to something. clone3 keeps its flags where a filter
 * cannot look: without it, glibc takes clone, and that may start threads only. Limits may be set
 * for the process itself. */
static void write_program(struct sock_filter program[PROGRAM]) {
    size_t n = 0;
    program[n++] = LOAD(arch);
    program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    program[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    program[n++] = LOAD(nr);
    program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
    program[n++] = FAIL(ENOSYS);
    for (size_t i = 0; i < ALLOWED; i++) {
        program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        program[n++] = RETURN(SECCOMP_RET_ALLOW);
    }
    program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 4);
    program[n++] = LOAD(args[0]); /* a process: 0 is the caller */
    program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    program[n++] = RETURN(SECCOMP_RET_ALLOW);
    program[n++] = FAIL(EPERM);
    program[n++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 2);
    program[n++] = LOAD(args[0]); /* the flags, in its lower half on a little-endian machine */
    program[n++] = JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    program[n++] = FAIL(EPERM);
    program[n++] = RETURN(SECCOMP_RET_ALLOW);
}

int seccomp_close(bool *ret_active, struct err *err) {
    struct sock_filter program[PROGRAM];
    write_program(program);
    struct sock_fprog filter = {.len = PROGRAM, .filter = program};
    *ret_active = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
    if (*ret_active || errno == EINVAL || errno == ENOSYS)
        return 0; /* or a kernel without it */
    return err_errno(err, ERR_INTERNAL, errno, "cannot close seccomp");
}
