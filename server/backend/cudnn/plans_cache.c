/* Finished plans on disk, so that the next job does not compile them again. An entry is used only when it is whole and made for
 * the same thing: the same device, version of cuDNN, limits and operation. Everything else is as if it were not there.
 *
 * A file is one line "residuum plan 1 CHECKSUM" (of all that follows), the line of what it was made for, the line of its engine,
 * and cuDNN's JSON to the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "server/backend/cudnn/plans_private.h"

enum { KEY_MAX = 4096, ENTRY_MAX = 32 << 20, HEAD_MAX = 64 };

static const char head_format[] = "residuum plan 1 %016" PRIx64 "\n";

/* FNV-1a of 64 bits (Fowler, Noll, Vo); it finds damage and names files, and protects from nobody. */
static const uint64_t checksum_start = 0xcbf29ce484222325;

static uint64_t checksum(uint64_t sum, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return sum;
}

/* The line of what a plan is made for; false when it is too long to be cached. */
static bool key_line(const struct planner *planner, const struct plan_request *request, char ret_line[KEY_MAX]) {
    char denied[PLAN_DENIED_MAX * 24] = "";
    size_t used = 0;
    for (int i = 0; i < planner->denied_n && used < sizeof denied; i++)
        if (planner->denied[i].op == request->op)
            used += (size_t)snprintf(denied + used, sizeof denied - used, " %" PRId64, planner->denied[i].engine);
    int n = snprintf(ret_line, KEY_MAX, "cudnn %zu, workspace %" PRId64 ", denied%s, %s %d %d, compiled %d, %s, %s\n",
                     planner->driver->cudnnGetVersion(), planner->workspace_bytes, used > 0 ? denied : " none",
                     plan_op_name(request->op), (int)request->precision, request->nondeterministic ? 1 : 0,
                     planner->driver->runtime_compiled ? 1 : 0, request->text, planner->profile);
    return n > 0 && n < KEY_MAX;
}

static void file_name(const char *key, char *ret_name, size_t size) {
    snprintf(ret_name, size, "%016" PRIx64 ".plan", checksum(checksum_start, key, strlen(key)));
}

/* The line after the key's: "engine INDEX NOTES BEHAVIORS KNOBS". *rest moves to the JSON behind it. */
static bool read_engine_line(char **rest, struct plan_engine *ret_engine) {
    char *end = strchr(*rest, '\n');
    if (end == NULL)
        return false;
    *end = '\0';
    int at = 0;
    if (sscanf(*rest, "engine %" SCNd64 " %" SCNx32 " %" SCNx32 " %n", &ret_engine->index, &ret_engine->notes,
               &ret_engine->behaviors, &at) != 3 ||
        at == 0)
        return false;
    snprintf(ret_engine->knobs, sizeof ret_engine->knobs, "%s", *rest + at);
    *rest = end + 1;
    return true;
}

/* The text of a whole entry -> a plan. */
static bool restore(const struct planner *planner, const char *key, char *text, size_t size, struct plan *ret_plan) {
    char head[HEAD_MAX];
    char *body = memchr(text, '\n', size);
    if (body == NULL || memchr(text, '\0', size) != NULL)
        return false;
    body++;
    snprintf(head, sizeof head, head_format, checksum(checksum_start, body, strlen(body)));
    if (strncmp(text, head, (size_t)(body - text)) != 0 || strncmp(body, key, strlen(key)) != 0)
        return false;
    char *json = body + strlen(key);
    struct plan plan = {.cached = true};
    if (!read_engine_line(&json, &plan.engine) ||
        plan_finalize(planner, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json,
                      &plan) != CUDNN_STATUS_SUCCESS)
        return false;
    *ret_plan = plan;
    return true;
}

bool cache_load(const struct planner *planner, const struct plan_request *request, struct plan *ret_plan) {
    char key[KEY_MAX], name[32], path[1024], *text = NULL;
    size_t size = 0;
    if (!key_line(planner, request, key))
        return false;
    file_name(key, name, sizeof name);
    int n = snprintf(path, sizeof path, "%s/%s", planner->cache, name);
    if (n < 0 || (size_t)n >= sizeof path || file_read(path, ENTRY_MAX, &text, &size, NULL) != 0)
        return false;
    struct plan plan = {0};
    bool restored = restore(planner, key, text, size, &plan);
    free(text);
    if (restored && plan.workspace_bytes > planner->workspace_bytes) {
        plan_done(&plan);
        return false;
    }
    if (restored)
        *ret_plan = plan;
    return restored;
}

/* cuDNN's JSON of a plan; NULL when it gives none. Caller frees. */
static char *plan_json(const struct plan *plan) {
    int64_t size = 0;
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
    if (plan->driver->cudnnBackendGetAttribute(plan->plan, name, CUDNN_TYPE_CHAR, 0, &size, NULL) != CUDNN_STATUS_SUCCESS ||
        size <= 0 || size > ENTRY_MAX)
        return NULL;
    char *json = calloc(1, (size_t)size + 1);
    if (json != NULL &&
        plan->driver->cudnnBackendGetAttribute(plan->plan, name, CUDNN_TYPE_CHAR, size, &size, json) != CUDNN_STATUS_SUCCESS) {
        free(json);
        return NULL;
    }
    return json;
}

static int write_entry(const struct planner *planner, char *key, char *engine, char *json, struct err *err) {
    char head[HEAD_MAX], name[32];
    uint64_t sum = checksum(checksum_start, key, strlen(key));
    sum = checksum(checksum(sum, engine, strlen(engine)), json, strlen(json));
    snprintf(head, sizeof head, head_format, sum);
    file_name(key, name, sizeof name);
    const struct iovec parts[] = {{head, strlen(head)}, {key, strlen(key)}, {engine, strlen(engine)}, {json, strlen(json)}};
    if (file_mkdirs(planner->cache, err) != 0)
        return -1;
    return file_write(planner->cache, name, parts, sizeof parts / sizeof parts[0], err);
}

void cache_store(const struct planner *planner, const struct plan_request *request, struct plan *plan) {
    char key[KEY_MAX], engine[sizeof plan->engine.knobs + 64];
    struct err err = {0};
    char *json = key_line(planner, request, key) ? plan_json(plan) : NULL;
    snprintf(engine, sizeof engine, "engine %" PRId64 " %" PRIx32 " %" PRIx32 " %s\n", plan->engine.index, plan->engine.notes,
             plan->engine.behaviors, plan->engine.knobs);
    if (json == NULL)
        snprintf(plan->cache_reason, sizeof plan->cache_reason, "cuDNN gives no JSON of it");
    else if (write_entry(planner, key, engine, json, &err) != 0)
        snprintf(plan->cache_reason, sizeof plan->cache_reason, "%.90s", err.text);
    free(json);
}
