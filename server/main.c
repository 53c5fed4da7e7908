/* residuumd: options, data directory, loop, and what happens at the end of a turn. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/loop.h"
#include "server/api/api.h"
#include "server/notify.h"
#include "server/options.h"
#include "server/sched/sched.h"
#include "server/selfcheck.h"
#include "server/store/store.h"

enum { TIDY_EVERY_MS = 60000, FILES_MAX = 8192 };
static const int64_t keep_progress_us = INT64_C(7) * 24 * 3600 * 1000000;

struct server {
    struct options options;
    struct loop *loop;
    struct loop_timer *tidy;
    struct store *store;
    struct sched *sched;
    struct api *api;
    bool draining;
    struct err fatal; /* why the loop was stopped early */
};

static void fail(struct server *server, const struct err *why) {
    if (server->fatal.code == ERR_NONE)
        server->fatal = *why;
    loop_stop(server->loop);
}

/* One sync for all that was written in this turn; only then is it answered, streamed and launched. */
static void turn_end(void *arg) {
    struct server *server = arg;
    struct err why = {0};
    bool wrote = false;
    bool committed = store_commit(server->store, &wrote, &why) == 0;
    if (!committed)
        log_line("error", "commit-failed", "reason", why.text, (char *)NULL);
    if (wrote || !committed)
        api_committed(server->api, committed, &why);
    if (!committed && why.code == ERR_STORE) { /* the disk may have lost what it was told to keep: start again from what it has */
        fail(server, &why);
        return;
    }
    sched_committed(server->sched, committed);
}

/* In idle moments: an empty log file, no progress of jobs that ended long ago. */
static void tidy(void *arg) {
    struct server *server = arg;
    struct err why = {0};
    bool more = false;
    if (store_tidy(server->store, &why) != 0) {
        fail(server, &why);
        return;
    }
    if (store_event_prune(server->store, clock_unix_us() - keep_progress_us, &more, &why) != 0)
        log_line("error", "prune-failed", "reason", why.text, (char *)NULL);
    loop_timer_arm(server->tidy, more ? 1000 : TIDY_EVERY_MS);
}

static void drained(void *arg) {
    struct server *server = arg;
    loop_stop(server->loop);
}

static void signalled(void *arg, int number) {
    struct server *server = arg;
    log_line("info", server->draining ? "stopping-faster" : "draining", "signal", sigabbrev_np(number), (char *)NULL);
    if (!server->draining) {
        notify_send("STOPPING=1");
        api_drain(server->api);
    }
    server->draining = true;
    sched_drain(server->sched, drained, server);
}

static int watch_signals(struct server *server, struct err *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN); /* a client or a worker that went away is an error code */
    return loop_signals(server->loop, &set, signalled, server, err);
}

/* --- start --- */

/* Standard streams that are closed would be given to the first file opened. */
static void streams_open(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

static void limits_raise(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FILES_MAX)
        return;
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_line("warning", "few-descriptors", "reason", strerror(errno), (char *)NULL);
}

static int data_open(struct server *server, char ret_dir[PATH_MAX], struct err *err) {
    if (file_mkdirs(server->options.data, err) != 0)
        return -1;
    if (realpath(server->options.data, ret_dir) == NULL)
        return err_errno(err, ERR_IO, errno, "cannot resolve the data directory %s", server->options.data);
    return store_open(ret_dir, &server->store, err);
}

static int loop_open(struct server *server, struct err *err) {
    server->loop = loop_new(err);
    if (server->loop == NULL || watch_signals(server, err) != 0)
        return -1;
    server->tidy = loop_timer_add(server->loop, tidy, server, err);
    if (server->tidy == NULL)
        return -1;
    loop_timer_arm(server->tidy, TIDY_EVERY_MS);
    return loop_turn_end_add(server->loop, turn_end, server, err);
}

static int sched_open(struct server *server, const char *dir, struct err *err) {
    struct sched_options options = {.loop = server->loop,
                                    .store = server->store,
                                    .data_dir = dir,
                                    .worker_path = server->options.worker,
                                    .probe_timeout_ms = server->options.probe_s * INT64_C(1000),
                                    .inspect_timeout_ms = server->options.inspect_s * INT64_C(1000),
                                    .import_timeout_ms = server->options.import_s * INT64_C(1000),
                                    .dataset_max_bytes = (int64_t)server->options.dataset_mib << 20,
                                    .stop_timeout_ms = server->options.grace_s * INT64_C(1000),
                                    .silence_ms = server->options.silence_s * INT64_C(1000),
                                    .tries_max = 3};
    return sched_new(&options, &server->sched, err);
}

static int api_open(struct server *server, struct err *err) {
    struct api_options options = {.loop = server->loop,
                                  .store = server->store,
                                  .sched = server->sched,
                                  .listen = server->options.listen,
                                  .allow_remote = server->options.allow_remote,
                                  .queue_max = server->options.queue_max,
                                  .web_dir = server->options.web};
    return api_new(&options, &server->api, err);
}

/* The address on standard output and, for programs, in DIR/address. */
static int announce(const struct server *server, const char *dir, struct err *err) {
    char line[256];
    int size = snprintf(line, sizeof line, "%s\n", api_address(server->api));
    struct iovec part = {.iov_base = line, .iov_len = (size_t)size};
    if (file_write(dir, "address", &part, 1, err) != 0)
        return -1;
    fputs(line, stdout);
    fflush(stdout); /* nobody may be reading it */
    log_line("info", "ready", "address", api_address(server->api), "data", dir, (char *)NULL);
    notify_send("READY=1");
    return 0;
}

static void server_close(struct server *server, const char *dir) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/address", dir);
    if (server->api != NULL)
        unlink(path);
    api_free(server->api);
    sched_free(server->sched);
    store_close(server->store);
    loop_timer_remove(server->tidy);
    loop_free(server->loop);
}

static int serve(struct server *server, struct err *err) {
    char dir[PATH_MAX] = "";
    int rc = -1;
    if (loop_open(server, err) == 0 && data_open(server, dir, err) == 0 && sched_open(server, dir, err) == 0 &&
        api_open(server, err) == 0 && announce(server, dir, err) == 0)
        rc = loop_run(server->loop, err);
    if (rc == 0 && server->fatal.code != ERR_NONE) {
        *err = server->fatal;
        rc = -1;
    }
    server_close(server, dir);
    return rc;
}

int main(int argc, char **argv) {
    static struct server server; /* large, and there is one */
    struct err err = {0};
    int status = 0;
    streams_open();
    umask(077);
    mallopt(M_ARENA_MAX, 1); /* one thread: a second heap would only take room */
    json_object_seed(0);
    if (options_parse(argc, argv, &server.options, &status, &err) != 0) {
        if (err.code != ERR_NONE)
            fprintf(stderr, "residuumd: %s\nTry residuumd --help.\n", err.text);
        return err.code != ERR_NONE ? err_exit(err.code) : status;
    }
    if (server.options.self_check) {
        selfcheck_exec(&server.options, &err);
        fprintf(stderr, "residuumd: %s\n", err.text);
        return err_exit(err.code);
    }
    limits_raise();
    if (serve(&server, &err) != 0) {
        log_line("error", "fatal", "reason", err.text, (char *)NULL);
        return err_exit(err.code);
    }
    log_line("info", "stopped", (char *)NULL);
    return 0;
}
