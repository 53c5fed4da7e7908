/* Jobs of the store: every move that is allowed and every one that is not, compare-and-set, the queue, epochs, who sees what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_rig.h"

/* The moves of the drawing in store.h, said a second time. */
static const char *const allowed[JOB_STATES_N] = {
    [JOB_QUEUED] = "starting cancelled",
    [JOB_STARTING] = "running queued failed cancelled",
    [JOB_RUNNING] = "succeeded failed cancelled queued",
    [JOB_SUCCEEDED] = "",
    [JOB_FAILED] = "queued",
    [JOB_CANCELLED] = "queued",
};

static void test_every_move(void **state) {
    struct rig *rig = *state;
    for (int from = 0; from < JOB_STATES_N; from++) {
        for (int to = 0; to < JOB_STATES_N; to++) {
            char id[JOB_ID_MAX];
            struct err err = {0};
            bool is_new;
            rig_bring(rig, (enum job_state)from, id);
            if (from == JOB_RUNNING)
                assert_int_equal(rig_epoch(rig, id, 1, 1, &is_new, &err), 0);
            bool may = strstr(allowed[from], job_state_name((enum job_state)to)) != NULL;
            int rc = rig_move(rig, id, (enum job_state)to, &err);
            struct job job = rig_get(rig, id);
            if (rc != (may ? 0 : -1) || (int)job.state != (may ? to : from) || (!may && err.code != ERR_INTERNAL))
                fail_msg("%s -> %s: %d %s", job_state_name((enum job_state)from), job_state_name((enum job_state)to), rc,
                         err.text);
            assert_true((job.ended_us > 0) == job_state_ended(job.state));
            job_done(&job);
        }
    }
    rig_commit(rig); /* nothing of it broke the turn */
}

static void test_compare_and_set(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0}, stale = {0}, unknown = {0};
    rig_bring(rig, JOB_RUNNING, id);
    assert_int_equal(store_job_move(rig->store, id, JOB_RUNNING, 2, JOB_FAILED, NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(store_job_move(rig->store, id, JOB_STARTING, 1, JOB_RUNNING, NULL, NULL, &stale), -1);
    assert_int_equal(stale.code, ERR_CONFLICT);
    assert_int_equal(store_job_move(rig->store, "job_none", JOB_RUNNING, 1, JOB_FAILED, NULL, NULL, &unknown), -1);
    assert_int_equal(unknown.code, ERR_NOT_FOUND);
    rig_commit(rig);
    struct job job = rig_get(rig, id);
    assert_int_equal(job.state, JOB_RUNNING);
    job_done(&job);
}

static bool all_but(void *arg, const struct job *job) {
    const char *id = arg;
    return strcmp(job->id, id) != 0;
}

/* The oldest job that is not this one must be the expected one (NULL: there is none). */
static void claim_other(struct rig *rig, const char *id, const char *expected) {
    struct err err = {0};
    struct job job;
    bool found = false;
    char unfit[JOB_ID_MAX];
    snprintf(unfit, sizeof unfit, "%s", id);
    struct job_claim claim = {.device = "cpu", .fits = all_but, .arg = unfit};
    assert_int_equal(store_job_claim(rig->store, &claim, &job, &found, &err), 0);
    assert_true(found == (expected != NULL));
    if (!found)
        return;
    assert_string_equal(job.id, expected);
    assert_int_equal(job.state, JOB_STARTING);
    assert_string_equal(job.device, "cpu");
    job_done(&job);
}

static void claim(struct rig *rig, const char *expected) {
    claim_other(rig, "", expected);
}

/* A job that does not fit waits, and does not hold up those behind it. */
static void test_claims_what_fits(void **state) {
    struct rig *rig = *state;
    char ids[2][JOB_ID_MAX];
    struct err err = {0};
    for (int i = 0; i < 2; i++)
        rig_add(rig, 1, ids[i]);
    int64_t arrivals = store_job_arrivals(rig->store);
    assert_int_equal(arrivals, 2);
    claim_other(rig, ids[0], ids[1]);
    claim_other(rig, ids[0], NULL);
    assert_int_equal(store_job_arrivals(rig->store), arrivals);
    assert_int_equal(rig_move(rig, ids[1], JOB_QUEUED, &err), 0);
    assert_int_equal(store_job_arrivals(rig->store), arrivals + 1);
    claim(rig, ids[0]);
    claim(rig, ids[1]);
    rig_commit(rig);
}

static void test_queue_is_first_in_first_out(void **state) {
    struct rig *rig = *state;
    char ids[3][JOB_ID_MAX];
    int64_t position = -1;
    struct err err = {0};
    for (int i = 0; i < 3; i++)
        rig_add(rig, 1, ids[i]);
    struct job last = rig_get(rig, ids[2]);
    assert_int_equal(store_job_position(rig->store, last.seq, &position, &err), 0);
    assert_int_equal(position, 2);
    claim(rig, ids[0]);
    assert_int_equal(rig_move(rig, ids[1], JOB_CANCELLED, &err), 0);
    assert_int_equal(store_job_position(rig->store, last.seq, &position, &err), 0);
    assert_int_equal(position, 0);
    claim(rig, ids[2]);
    claim(rig, NULL);
    job_done(&last);
}

static void test_attempts_and_tries(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    struct job_change died = {.reason = "worker-died", .reason_text = "it died"};
    struct job_change drained = {.reason = "unavailable", .reason_text = "stopped", .uncounted = true};
    struct job job;
    rig_add(rig, 1, id);
    claim(rig, id);
    assert_int_equal(store_job_move(rig->store, id, JOB_STARTING, 1, JOB_QUEUED, &died, &job, &err), 0);
    assert_true(job.attempt == 1 && job.tries == 1);
    assert_string_equal(job.reason_text, "it died");
    job_done(&job);
    claim(rig, id);
    assert_int_equal(store_job_move(rig->store, id, JOB_STARTING, 2, JOB_QUEUED, &drained, &job, &err), 0);
    assert_true(job.attempt == 2 && job.tries == 1); /* stopped by us: not counted */
    job_done(&job);
    claim(rig, id);
    assert_int_equal(store_job_move(rig->store, id, JOB_STARTING, 3, JOB_RUNNING, NULL, &job, &err), 0);
    assert_string_equal(job.reason, "unavailable"); /* the last interruption stays visible */
    job_done(&job);
    assert_int_equal(store_job_move(rig->store, id, JOB_RUNNING, 3, JOB_FAILED, &died, &job, &err), 0);
    assert_true(job.attempt == 3 && job.tries == 2 && job.ended_us > 0);
    job_done(&job);
    assert_int_equal(store_job_move(rig->store, id, JOB_FAILED, 3, JOB_QUEUED, NULL, &job, &err), 0);
    assert_true(job.attempt == 3 && job.tries == 0 && job.ended_us == 0 && job.started_us == 0);
    assert_string_equal(job.reason, "");
    assert_null(job.reason_text);
    job_done(&job);
}

static void test_success_needs_every_epoch(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX], other[JOB_ID_MAX];
    struct err err = {0}, lost = {0};
    bool wrote;
    rig_bring(rig, JOB_RUNNING, id);
    rig_commit(rig);
    rig_add(rig, 1, other);
    assert_int_equal(rig_move(rig, id, JOB_SUCCEEDED, &err), -1); /* the CHECK of the table */
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(store_commit(rig->store, &wrote, &lost), -1); /* the whole turn is undone and says so */
    assert_true(wrote && lost.code == ERR_INTERNAL);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM job"), 1);
}

static void test_early_stop_succeeds(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    bool is_new;
    struct epoch_new best = {
        .epoch = 1, .body = "{\"epoch\":1}", .test_accuracy = 0.5, .best = true, .weights_sha256 = "", .exported_sha256 = ""};
    rig_add(rig, 5, id);
    claim(rig, id);
    rig_move(rig, id, JOB_RUNNING, &err);
    assert_int_equal(store_epoch_add(rig->store, id, 1, &best, &is_new, &err), 0);
    assert_int_equal(rig_epoch(rig, id, 1, 2, &is_new, &err), 0);
    struct job job = rig_get(rig, id);
    assert_true(job.best_epoch == 1 && job.test_accuracy == 0.25); /* of the newest one */
    job_done(&job);
    struct job_change change = {.stopped_early = true};
    assert_int_equal(store_job_move(rig->store, id, JOB_RUNNING, 1, JOB_SUCCEEDED, &change, &job, &err), 0);
    assert_true(job.stopped_early && job.best_epoch == 1 && job.epochs_done == 2);
    json_t *value = job_to_json(&job);
    assert_int_equal(json_integer_value(json_object_get(value, "best_epoch")), 1);
    assert_true(json_is_true(json_object_get(value, "stopped_early")));
    assert_true(json_real_value(json_object_get(value, "test_accuracy")) == 0.25);
    json_decref(value);
    job_done(&job);
}

/* --- verifications --- */

/* A job that has succeeded, and a queued one that runs it again. */
static void add_verification(struct rig *rig, char ret_verified[JOB_ID_MAX], char ret_verifier[JOB_ID_MAX]) {
    struct err err = {0};
    struct job job;
    rig_bring(rig, JOB_SUCCEEDED, ret_verified);
    struct job_new new = {.spec = "{}", .epochs = 1, .verifies = ret_verified};
    assert_int_equal(store_job_add(rig->store, &rig->viewer, &new, &job, &err), 0);
    assert_string_equal(job.verifies, ret_verified);
    memcpy(ret_verifier, job.id, JOB_ID_MAX);
    job_done(&job);
}

static void expect_verification(struct rig *rig, const char *id, enum verify_result result, const char *other, int epoch) {
    struct job job = rig_get(rig, id);
    assert_int_equal(job.verification.result, result);
    assert_string_equal(job.verification.job, other);
    assert_int_equal(job.verification.epoch, epoch);
    job_done(&job);
}

static void test_verification_marks_both(void **state) {
    struct rig *rig = *state;
    char verified[JOB_ID_MAX], verifier[JOB_ID_MAX];
    struct err err = {0};
    add_verification(rig, verified, verifier);
    expect_verification(rig, verified, VERIFY_PENDING, verifier, 0);
    expect_verification(rig, verifier, VERIFY_PENDING, verified, 0);
    int64_t before = rig_number(rig, "SELECT count(*) FROM event");
    assert_int_equal(store_verify_set(rig->store, verifier, VERIFY_DIFFERS, 1, &err), 0);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event"), before + 2); /* each side tells */
    expect_verification(rig, verified, VERIFY_DIFFERS, verifier, 1);
    expect_verification(rig, verifier, VERIFY_DIFFERS, verified, 1);
}

static void test_older_verification_changes_one_side(void **state) {
    struct rig *rig = *state;
    char verified[JOB_ID_MAX], older[JOB_ID_MAX], newer[JOB_ID_MAX];
    struct err err = {0};
    struct job job;
    add_verification(rig, verified, older);
    struct job_new new = {.spec = "{}", .epochs = 1, .verifies = verified};
    assert_int_equal(store_job_add(rig->store, &rig->viewer, &new, &job, &err), 0);
    memcpy(newer, job.id, JOB_ID_MAX);
    job_done(&job);
    assert_int_equal(store_verify_set(rig->store, older, VERIFY_IDENTICAL, 0, &err), 0);
    expect_verification(rig, older, VERIFY_IDENTICAL, verified, 0);
    expect_verification(rig, verified, VERIFY_PENDING, newer, 0);
}

static void test_verification_without_an_answer(void **state) {
    struct rig *rig = *state;
    char verified[JOB_ID_MAX], verifier[JOB_ID_MAX];
    struct err err = {0}, in_use = {0};
    add_verification(rig, verified, verifier);
    assert_int_equal(store_job_delete(rig->store, &rig->viewer, verified, &in_use), -1);
    assert_int_equal(in_use.code, ERR_CONFLICT);
    assert_int_equal(rig_move(rig, verifier, JOB_CANCELLED, &err), 0);
    expect_verification(rig, verified, VERIFY_UNFINISHED, verifier, 0);
    assert_int_equal(rig_move(rig, verifier, JOB_QUEUED, &err), 0);
    expect_verification(rig, verified, VERIFY_PENDING, verifier, 0);
    assert_int_equal(rig_move(rig, verifier, JOB_CANCELLED, &err), 0);
    assert_int_equal(store_job_delete(rig->store, &rig->viewer, verified, &err), 0);
}

static void test_cancel_request(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    rig_bring(rig, JOB_RUNNING, id);
    int64_t before = rig_number(rig, "SELECT count(*) FROM event");
    assert_int_equal(store_job_cancel_requested(rig->store, id, &err), 0);
    assert_int_equal(store_job_cancel_requested(rig->store, id, &err), 0);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event"), before + 1); /* told once */
    struct job job = rig_get(rig, id);
    assert_true(job.cancel_requested_us > 0);
    json_t *value = job_to_json(&job);
    assert_true(json_is_true(json_object_get(value, "cancel_requested")));
    json_decref(value);
    job_done(&job);
}

static void test_epochs(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0}, gap = {0}, stale = {0}, beyond = {0}, waiting = {0};
    bool is_new = false;
    rig_add(rig, 2, id);
    assert_int_equal(rig_epoch(rig, id, 0, 1, &is_new, &waiting), -1);
    assert_int_equal(waiting.code, ERR_CONFLICT); /* it does not run yet */
    claim(rig, id);
    assert_int_equal(rig_move(rig, id, JOB_RUNNING, &err), 0);
    assert_int_equal(rig_epoch(rig, id, 1, 2, &is_new, &gap), -1);
    assert_int_equal(gap.code, ERR_CONFLICT);
    assert_int_equal(rig_epoch(rig, id, 1, 1, &is_new, &err), 0);
    assert_true(is_new);
    assert_int_equal(rig_epoch(rig, id, 1, 1, &is_new, &err), 0);
    assert_false(is_new);
    assert_int_equal(rig_epoch(rig, id, 0, 2, &is_new, &stale), -1);
    assert_int_equal(stale.code, ERR_CONFLICT);
    assert_int_equal(rig_epoch(rig, id, 1, 2, &is_new, &err), 0);
    assert_int_equal(rig_epoch(rig, id, 1, 3, &is_new, &beyond), -1);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM epoch"), 2);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event WHERE type = 'epoch'"), 2);
    assert_int_equal(rig_number(rig, "SELECT epochs_done FROM job"), 2);
}

struct seen {
    char text[512];
    int n, stop_at;
};

static int see_epoch(void *arg, int epoch, const char *body) {
    struct seen *seen = arg;
    char one[64];
    snprintf(one, sizeof one, "%d:%s ", epoch, body);
    strncat(seen->text, one, sizeof seen->text - strlen(seen->text) - 1);
    return ++seen->n == seen->stop_at;
}

static void test_epoch_list(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    bool is_new;
    rig_add(rig, 5, id);
    claim(rig, id);
    rig_move(rig, id, JOB_RUNNING, &err);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(rig_epoch(rig, id, 1, i, &is_new, &err), 0);
    struct seen page = {0}, stopped = {.stop_at = 1};
    assert_int_equal(store_epoch_list(rig->store, &rig->viewer, id, 1, 2, see_epoch, &page, &err), 0);
    assert_string_equal(page.text, "2:{\"epoch\":2} 3:{\"epoch\":3} ");
    assert_int_equal(store_epoch_list(rig->store, &rig->viewer, id, 4, 9, see_epoch, &stopped, &err), 0);
    assert_string_equal(stopped.text, "5:{\"epoch\":5} ");
    assert_int_equal(store_epoch_list(rig->store, &rig->viewer, "job_none", 0, 9, see_epoch, &page, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static int see_job(void *arg, const struct job *job) {
    struct seen *seen = arg;
    strncat(seen->text, job_state_name(job->state), 1);
    return ++seen->n == seen->stop_at;
}

static int see_weights(void *arg, const struct store_weights *weights) {
    struct seen *seen = arg;
    char one[32];
    snprintf(one, sizeof one, "%d:%d:%s:%s ", weights->epoch, weights->attempt, weights->weights_sha256 + 62,
             weights->exported_sha256 + 62);
    strcat(seen->text, one);
    return 0;
}

static int see_attempt(void *arg, int attempt, const char *hello) {
    struct seen *seen = arg;
    char one[64];
    snprintf(one, sizeof one, "%d:%s ", attempt, hello);
    strcat(seen->text, one);
    return 0;
}

static void test_weights_and_attempts(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX], sha256[WEIGHTS_SHA256_MAX];
    struct err err = {0};
    bool is_new;
    struct seen weights = {0}, attempts = {0};
    rig_add(rig, 3, id);
    for (int attempt = 1; attempt <= 2; attempt++) {
        claim(rig, id);
        assert_int_equal(store_job_hello(rig->store, id, attempt, attempt == 1 ? "{\"a\":1}" : "{\"a\":2}", &err), 0);
        rig_move(rig, id, JOB_RUNNING, &err);
        assert_int_equal(rig_epoch(rig, id, attempt, attempt, &is_new, &err), 0);
        rig_move(rig, id, JOB_QUEUED, &err);
    }
    struct job job = rig_get(rig, id);
    assert_int_equal(store_weights_list(rig->store, job.seq, see_weights, &weights, &err), 0);
    assert_string_equal(weights.text, "1:1:01:11 2:2:02:12 ");
    assert_int_equal(store_attempt_list(rig->store, job.seq, see_attempt, &attempts, &err), 0);
    assert_string_equal(attempts.text, "1:{\"a\":1} 2:{\"a\":2} ");
    assert_string_equal(job.hello, "{\"a\":2}");
    job_done(&job);
    assert_int_equal(store_weights_get(rig->store, id, 2, sha256, &err), 0);
    assert_string_equal(sha256 + 60, "0002");
    assert_int_equal(store_weights_get(rig->store, id, 3, sha256, &err), 0);
    assert_string_equal(sha256, "");
}

static void test_list(void **state) {
    struct rig *rig = *state;
    char ids[JOB_STATES_N][JOB_ID_MAX];
    struct err err = {0};
    for (int i = 0; i < JOB_STATES_N; i++)
        rig_bring(rig, (enum job_state)i, ids[i]);
    struct seen all = {0}, some = {0}, page = {0}, stopped = {.stop_at = 2};
    assert_int_equal(store_job_list(rig->store, &rig->viewer, 0, 0, 100, see_job, &all, &err), 0);
    assert_string_equal(all.text, "cfsrsq"); /* newest first */
    unsigned active = 1U << JOB_QUEUED | 1U << JOB_RUNNING;
    assert_int_equal(store_job_list(rig->store, &rig->viewer, active, 0, 100, see_job, &some, &err), 0);
    assert_string_equal(some.text, "rq");
    struct job job = rig_get(rig, ids[JOB_FAILED]);
    assert_int_equal(store_job_list(rig->store, &rig->viewer, 0, job.seq, 2, see_job, &page, &err), 0);
    assert_string_equal(page.text, "sr");
    assert_int_equal(store_job_list(rig->store, &rig->viewer, 0, 0, 100, see_job, &stopped, &err), 0);
    assert_string_equal(stopped.text, "cf");
    int64_t counts[JOB_STATES_N];
    assert_int_equal(store_job_counts(rig->store, counts, &err), 0);
    for (int i = 0; i < JOB_STATES_N; i++)
        assert_int_equal(counts[i], 1);
    job_done(&job);
}

static int see_event(void *arg, const struct event *event) {
    struct seen *seen = arg;
    (void)event;
    seen->n++;
    return 0;
}

static void test_strangers_see_nothing(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0}, gone = {0};
    struct seen jobs = {0}, events = {0};
    struct job job;
    int64_t scanned = 0;
    rig_sql(rig, "INSERT INTO account VALUES (2, 'mallory', 1)");
    struct viewer mallory = {.account = 2, .name = "mallory"}, teacher = {.account = 3, .sees_all = true};
    rig_bring(rig, JOB_SUCCEEDED, id);
    rig_commit(rig);
    assert_int_equal(store_job_get(rig->store, &mallory, id, &job, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_job_list(rig->store, &mallory, 0, 0, 9, see_job, &jobs, NULL), 0);
    assert_int_equal(store_job_list(rig->store, &mallory, 1U << JOB_SUCCEEDED, 0, 9, see_job, &jobs, NULL), 0);
    assert_int_equal(store_epoch_list(rig->store, &mallory, id, 0, 9, see_epoch, &jobs, NULL), -1);
    assert_int_equal(jobs.n, 0);
    assert_int_equal(store_job_delete(rig->store, &mallory, id, &gone), -1);
    assert_int_equal(gone.code, ERR_NOT_FOUND);
    assert_int_equal(store_event_list(rig->store, &mallory, NULL, 0, 99, see_event, &events, &scanned, NULL), 0);
    assert_int_equal(events.n, 0);
    assert_int_equal(scanned, store_event_newest(rig->store)); /* and its stream does not look at them again */
    assert_int_equal(store_event_list(rig->store, &teacher, NULL, 0, 99, see_event, &events, &scanned, NULL), 0);
    assert_int_equal(events.n, 5);
}

static void test_job_json(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    struct job_change change = {.reason = "worker-died", .reason_text = "a \"quoted\" reason"};
    rig_bring(rig, JOB_STARTING, id);
    assert_int_equal(store_job_hello(rig->store, id, 1, "{\"backend\":\"ref\"}", &err), 0);
    assert_int_equal(store_job_move(rig->store, id, JOB_STARTING, 1, JOB_FAILED, &change, NULL, &err), 0);
    struct job job = rig_get(rig, id);
    json_t *value = job_to_json(&job);
    assert_string_equal(json_string_value(json_object_get(value, "state")), "failed");
    assert_string_equal(json_string_value(json_object_get(value, "owner")), "local");
    assert_string_equal(json_string_value(json_object_get(value, "name")), "n");
    assert_string_equal(json_string_value(json_object_get(json_object_get(value, "worker"), "backend")), "ref");
    assert_string_equal(json_string_value(json_object_get(json_object_get(value, "reason"), "text")), "a \"quoted\" reason");
    const char *ended = json_string_value(json_object_get(value, "ended"));
    assert_int_equal(strlen(ended), strlen("2026-11-24T06:50:28.123456Z"));
    json_decref(value);
    job_done(&job);
}

static void test_ids_are_random(void **state) {
    (void)state;
    struct err err = {0};
    char a[JOB_ID_MAX], b[JOB_ID_MAX];
    assert_int_equal(id_make("job_", a, &err), 0);
    assert_int_equal(id_make("job_", b, &err), 0);
    assert_int_equal(strlen(a), 26);
    assert_int_equal(strspn(a + 4, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"), 22);
    assert_string_not_equal(a, b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_move, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_compare_and_set, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_queue_is_first_in_first_out, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_claims_what_fits, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_attempts_and_tries, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_success_needs_every_epoch, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_early_stop_succeeds, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_verification_marks_both, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_older_verification_changes_one_side, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_verification_without_an_answer, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_weights_and_attempts, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_cancel_request, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_epochs, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_epoch_list, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_list, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_strangers_see_nothing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_job_json, rig_setup, rig_teardown),
        cmocka_unit_test(test_ids_are_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
