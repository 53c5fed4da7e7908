/* What a submit is answered when its commit fails, and that the API stops cleanly whatever waits: the real API and store in a
 * loop, the scheduler's door played by this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/file.h"
#include "server/api/api.h"

/* --- the scheduler, as far as the API asks it here --- */

static const char devices_text[] = "{\"state\": \"ready\", \"reason\": null, \"items\": [{\"memory_bytes\": 8589934592, "
                                   "\"backends\": [{\"name\": \"ref\", \"precisions\": "
                                   "[\"f32\"]}]}]}";

json_t *sched_devices(const struct sched *sched) {
    (void)sched;
    return json_loads(devices_text, 0, NULL);
}

int sched_device_resume(struct sched *sched, const char *id, json_t **ret_device, struct err *err) {
    (void)sched;
    (void)ret_device;
    return err_set(err, ERR_NOT_FOUND, "there is no device %s", id);
}

void sched_ask_room(struct sched *sched, sched_room_fn *room, void *arg) {
    (void)sched;
    (void)room;
    (void)arg;
}

const json_t *sched_datasets(const struct sched *sched) {
    (void)sched;
    return NULL;
}

int sched_threads(const struct sched *sched) {
    (void)sched;
    return 2;
}

int sched_cancel(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err) {
    (void)sched, (void)viewer, (void)ret_job;
    return err_set(err, ERR_NOT_FOUND, "no job %s", id);
}

int sched_retry(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err) {
    return sched_cancel(sched, viewer, id, ret_job, err);
}

int sched_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err) {
    return sched_cancel(sched, viewer, id, NULL, err);
}

int sched_log(struct sched *sched, const char *id, size_t limit, char **ret_text, size_t *ret_size, struct err *err) {
    (void)sched, (void)limit, (void)ret_text, (void)ret_size;
    return err_set(err, ERR_NOT_FOUND, "no job %s", id);
}

int sched_inspect(struct sched *sched, const struct sched_question *question, struct inspection **ret_inspection,
                  struct err *err) {
    (void)sched, (void)ret_inspection;
    json_decref(question->steal_want);
    return err_set(err, ERR_UNAVAILABLE, "nobody looks into job %s", question->job->id);
}

void sched_inspect_abandon(struct inspection *inspection) {
    (void)inspection;
}

int sched_file_open(struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err) {
    (void)sched, (void)name, (void)ret_fd, (void)ret_size;
    return err_set(err, ERR_NOT_FOUND, "no job %s", id);
}

int sched_weights_find(const struct sched *sched, const char *id, int epoch, struct sched_weights *ret_weights, struct err *err) {
    (void)sched, (void)epoch, (void)ret_weights;
    return err_set(err, ERR_NOT_FOUND, "no job %s", id);
}

int sched_weights_list(const struct sched *sched, const char *id, struct sched_kept **ret_list, size_t *ret_n, struct err *err) {
    (void)sched, (void)ret_list, (void)ret_n;
    return err_set(err, ERR_NOT_FOUND, "no job %s", id);
}

int sched_initial_place(struct sched *sched, const struct sched_initial *initial, const char *to, struct err *err) {
    (void)sched, (void)to;
    return err_set(err, ERR_NOT_FOUND, "no job %s", initial->job);
}

void sched_initial_drop(struct sched *sched, const char *to) {
    (void)sched, (void)to;
}

int sched_upload_check(const struct sched *sched, int64_t bytes, struct err *err) {
    (void)sched, (void)bytes, (void)err;
    return 0;
}

int sched_upload_open(const struct sched *sched, const struct dataset *dataset, int *ret_fd, int64_t *ret_offset,
                      struct err *err) {
    (void)sched, (void)ret_fd, (void)ret_offset;
    return err_set(err, ERR_IO, "nothing is uploaded to %s", dataset->id);
}

int64_t sched_upload_offset(const struct sched *sched, const struct dataset *dataset) {
    (void)sched, (void)dataset;
    return 0;
}

int sched_upload_done(struct sched *sched, const struct dataset *dataset, struct err *err) {
    (void)sched;
    return err_set(err, ERR_IO, "nothing is uploaded to %s", dataset->id);
}

int sched_dataset_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err) {
    (void)sched, (void)viewer;
    return err_set(err, ERR_NOT_FOUND, "no data set %s", id);
}

int sched_dataset_file(const struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size,
                       struct err *err) {
    (void)sched, (void)name, (void)ret_fd, (void)ret_size;
    return err_set(err, ERR_NOT_FOUND, "no data set %s", id);
}

const json_t *sched_import_progress(const struct sched *sched, const char *id) {
    (void)sched, (void)id;
    return NULL;
}

int sched_export_path(const struct sched *sched, const char *name, char ret_path[PATH_MAX], struct err *err) {
    (void)sched, (void)name, (void)ret_path;
    return err_set(err, ERR_INTERNAL, "not in this test");
}

int sched_export_open(const struct sched *sched, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err) {
    (void)sched, (void)name, (void)ret_fd, (void)ret_size;
    return err_set(err, ERR_INTERNAL, "not in this test");
}

void sched_export_drop(const struct sched *sched, const char *name) {
    (void)sched, (void)name;
}

struct sched_counters sched_counters(const struct sched *sched) {
    (void)sched;
    return (struct sched_counters){0};
}

/* --- a server with a commit that can fail, and a client in the same loop --- */

enum { CLIENTS = 4 };

struct client {
    struct rig *rig;
    struct loop_fd *watch;
    int fd;
    char answer[16384];
    size_t size;
    bool ended;
};

struct rig {
    char dir[64];
    struct loop *loop;
    struct loop_timer *limit;
    struct store *store;
    struct api *api;
    struct client clients[CLIENTS];
    enum err_code failure; /* of the next commits */
    bool hold;             /* no commit at all */
    bool lose;             /* the next commit is undone, as on a full disk */
    const char *awaited;   /* ends the loop when client 0's answer holds it */
};

/* A write that the schema refuses undoes the whole turn. */
static void lose(struct rig *rig, struct err *err) {
    struct viewer viewer;
    struct job job;
    struct job_new new = {.spec = "no JSON", .epochs = 1};
    rig->lose = false;
    assert_int_equal(store_viewer_local(rig->store, &viewer, err), 0);
    assert_int_equal(store_job_add(rig->store, &viewer, &new, &job, NULL), -1);
    assert_int_equal(store_commit(rig->store, NULL, err), -1);
    api_committed(rig->api, false, err);
}

static void turn_end(void *arg) {
    struct rig *rig = arg;
    struct err err = {0};
    bool wrote;
    if (rig->hold)
        return;
    if (rig->lose) {
        lose(rig, &err);
        return;
    }
    assert_int_equal(store_commit(rig->store, &wrote, &err), 0);
    if (rig->failure != ERR_NONE)
        err_set(&err, rig->failure, "the disk is made to fail");
    if (wrote)
        api_committed(rig->api, rig->failure == ERR_NONE, &err);
}

static void too_late(void *arg) {
    (void)arg;
    fail_msg("nothing happened for 20 s");
}

static void setup(struct rig *rig) {
    struct err err = {0};
    *rig = (struct rig){.dir = "/tmp/residuum-api-XXXXXX"};
    assert_non_null(mkdtemp(rig->dir));
    rig->loop = loop_new(&err);
    rig->limit = loop_timer_add(rig->loop, too_late, NULL, &err);
    assert_int_equal(store_open(rig->dir, &rig->store, &err), 0);
    struct api_options options = {.loop = rig->loop, .store = rig->store, .listen = "127.0.0.1:0", .queue_max = 1000};
    assert_int_equal(api_new(&options, &rig->api, &err), 0);
    assert_int_equal(loop_turn_end_add(rig->loop, turn_end, rig, &err), 0);
}

static void finish(struct rig *rig) {
    for (int i = 0; i < CLIENTS; i++) {
        loop_fd_remove(rig->clients[i].watch);
        if (rig->clients[i].rig != NULL)
            close(rig->clients[i].fd);
    }
    api_free(rig->api);
    store_close(rig->store);
    loop_timer_remove(rig->limit);
    loop_free(rig->loop);
    file_remove_tree(rig->dir, NULL);
}

static void on_readable(void *arg, uint32_t events) {
    struct client *client = arg;
    (void)events;
    ssize_t size = read(client->fd, client->answer + client->size, sizeof client->answer - 1 - client->size);
    if (size > 0)
        client->size += (size_t)size;
    else
        client->ended = true;
    const char *awaited = client->rig->awaited;
    if (client->ended)
        loop_fd_change(client->watch, 0, NULL);
    if (client->ended || (awaited != NULL && strstr(client->answer, awaited) != NULL))
        loop_stop(client->rig->loop);
}

static void send_text(struct rig *rig, int i, const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client *client = &rig->clients[i];
    struct err err = {0};
    address.sin_port = htons((uint16_t)atoi(strrchr(api_address(rig->api), ':') + 1));
    *client = (struct client){.rig = rig, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(client->fd, text, strlen(text)), strlen(text));
    client->watch = loop_fd_add(rig->loop, client->fd, EPOLLIN, on_readable, client, &err);
    assert_non_null(client->watch);
}

static void send_submit(struct rig *rig, int i) {
    static const char body[] = "{\"dataset\": \"shapes\", \"model\": \"lenet5\"}";
    char text[512];
    snprintf(text, sizeof text,
             "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
             "application/json\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    send_text(rig, i, text);
}

static void run(struct rig *rig, const char *awaited) {
    rig->awaited = awaited;
    loop_timer_arm(rig->limit, 20000);
    assert_int_equal(loop_run(rig->loop, NULL), 0);
    loop_timer_disarm(rig->limit);
}

/* Submits while commits fail with a code; the answer. */
static const char *submit_failing(struct rig *rig, enum err_code failure) {
    setup(rig);
    rig->failure = failure;
    send_submit(rig, 0);
    run(rig, NULL);
    return rig->clients[0].answer;
}

static void test_committed(void **state) {
    struct rig rig;
    (void)state;
    const char *answer = submit_failing(&rig, ERR_NONE);
    assert_non_null(strstr(answer, "HTTP/1.1 202 "));
    assert_non_null(strstr(answer, "\r\nLocation: /v1/jobs/job_"));
    finish(&rig);
}

static void test_full_disk(void **state) {
    struct rig rig;
    (void)state;
    const char *answer = submit_failing(&rig, ERR_FULL);
    assert_non_null(strstr(answer, "HTTP/1.1 507 "));
    assert_non_null(strstr(answer, "application/problem+json"));
    assert_non_null(strstr(answer, "\"type\":\"/problems/storage-full\""));
    assert_non_null(strstr(answer, "the disk is made to fail"));
    assert_null(strstr(answer, "Location"));
    finish(&rig);
}

static void test_broken_disk(void **state) {
    struct rig rig;
    (void)state;
    const char *answer = submit_failing(&rig, ERR_STORE);
    assert_non_null(strstr(answer, "HTTP/1.1 500 "));
    assert_non_null(strstr(answer, "\"type\":\"/problems/store\""));
    assert_null(strstr(answer, "Location"));
    finish(&rig);
}

/* A read waits for the commit of what it may have seen; when that fails it is read again, and shows what is left. */
static void test_read_beside_a_lost_write(void **state) {
    struct rig rig;
    (void)state;
    setup(&rig);
    rig.hold = true;
    send_submit(&rig, 1);
    send_text(&rig, 0, "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    send_text(&rig, 3, "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    run(&rig, NULL);
    assert_int_equal(rig.clients[0].size + rig.clients[1].size, 0);
    rig.hold = false;
    rig.lose = true;
    loop_again(rig.loop);
    run(&rig, "\"cursor\":");
    assert_non_null(strstr(rig.clients[0].answer, "HTTP/1.1 200 "));
    assert_non_null(strstr(rig.clients[0].answer, "{\"items\":[],"));
    finish(&rig);
}

/* Nothing is answered before its commit; MHD_stop_daemon would abort the process if a connection were still suspended. */
static void test_stop_with_everything_waiting(void **state) {
    struct rig rig;
    (void)state;
    setup(&rig);
    send_text(&rig, 0, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    run(&rig, "retry: 3000");
    rig.hold = true;
    send_submit(&rig, 1);
    send_submit(&rig, 2);
    send_text(&rig, 3, "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    run(&rig, NULL); /* a refusal shows nothing of the store: it comes at once, after what came before it was handled */
    assert_true(rig.clients[3].ended);
    assert_int_equal(rig.clients[1].size + rig.clients[2].size, 0);
    api_free(rig.api);
    rig.api = NULL;
    for (int i = 0; i < 3; i++) {
        while (!rig.clients[i].ended)
            on_readable(&rig.clients[i], EPOLLIN);
    }
    assert_non_null(strstr(rig.clients[0].answer, "\r\n0\r\n\r\n"));
    assert_non_null(strstr(rig.clients[1].answer, "HTTP/1.1 503 "));
    assert_non_null(strstr(rig.clients[2].answer, "HTTP/1.1 503 "));
    finish(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_committed),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_broken_disk),
        cmocka_unit_test(test_read_beside_a_lost_write),
        cmocka_unit_test(test_stop_with_everything_waiting),
    };
    return cmocka_run_group_tests_name("api_commit", tests, NULL, NULL);
}
