/* Landlock, by its system calls: landlock(7). The kernel's header of Debian 12 knows its first versions only, so the bits and the
 * structure of later ones stand here. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/train/import/sandbox.h"

#define FS_WRITE_FILE (1U << 1)
#define FS_READ_FILE (1U << 2)
#define FS_READ_DIR (1U << 3)
#define FS_REMOVE_FILE (1U << 5)
#define FS_MAKE_REG (1U << 8)
#define FS_FIRST ((1U << 13) - 1) /* all of version 1 */
#define FS_REFER (1U << 13)       /* version 2 */
#define FS_TRUNCATE (1U << 14)    /* version 3 */
#define FS_IOCTL_DEV (1U << 15)   /* version 5 */
#define NET_TCP 3U                /* bind and connect; version 4 */
#define SCOPE_ALL 3U              /* abstract sockets and signals; version 6 */

enum { CREATE_VERSION = 1, RULE_PATH_BENEATH = 1 };

struct ruleset {
    uint64_t fs, net, scoped;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

static uint64_t fs_rights(int version) {
    return FS_FIRST | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) | (version >= 5 ? FS_IOCTL_DEV : 0);
}

static size_t ruleset_size(int version) {
    return version >= 6   ? sizeof(struct ruleset)
           : version >= 4 ? offsetof(struct ruleset, scoped)
                          : offsetof(struct ruleset, net);
}

static int allow(int ruleset, const char *path, uint64_t rights, struct err *err) {
    struct stat st;
    struct path_rule rule = {.parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
    /* A file takes the rights of files only. */
    if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rights &= FS_READ_FILE;
    rule.allowed = rights;
    long rc = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
    int saved = errno;
    close(rule.parent_fd);
    return rc == 0 ? 0 : err_errno(err, ERR_INTERNAL, saved, "cannot allow %s in Landlock", path);
}

static int close_walls(int ruleset, const char *source, const char *out, uint64_t handled, struct err *err) {
    uint64_t read = FS_READ_FILE | FS_READ_DIR;
    uint64_t write = read | FS_WRITE_FILE | FS_MAKE_REG | FS_REMOVE_FILE | FS_TRUNCATE;
    if (allow(ruleset, source, read, err) != 0 || allow(ruleset, out, write & handled, err) != 0)
        return -1;
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot close Landlock");
    return 0;
}

int landlock_close(const char *source, const char *out, int *ret_version, struct err *err) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    *ret_version = version > 0 ? (int)version : 0;
    if (version <= 0)
        return 0; /* the kernel has none, or it is switched off */
    struct ruleset rules = {.fs = fs_rights(*ret_version), .net = NET_TCP, .scoped = SCOPE_ALL};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, ruleset_size(*ret_version), 0);
    if (ruleset < 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot make a ruleset of Landlock, version %d", *ret_version);
    int rc = close_walls(ruleset, source, out, rules.fs, err);
    close(ruleset);
    return rc;
}
