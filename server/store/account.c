/* Who asks, and what they may see. */
#include <stdio.h>

#include "server/store/private.h"

const struct viewer viewer_daemon = {.account = 0, .name = "", .sees_all = true};

int store_viewer_local(struct store *store, struct viewer *ret_viewer, struct err *err) {
    sqlite3_stmt *stmt = query_start(store, err, "SELECT id, name FROM account ORDER BY id LIMIT 1", "");
    if (stmt == NULL)
        return -1;
    int row = query_step(store, stmt, err);
    if (row > 0) {
        *ret_viewer = (struct viewer){.account = sqlite3_column_int64(stmt, 0)};
        snprintf(ret_viewer->name, sizeof ret_viewer->name, "%s", query_text(stmt, 1));
    } else if (row == 0) {
        err_set(err, ERR_STORE, "the store has no account; its first migration makes one, so it was edited");
    }
    query_end(stmt);
    return row > 0 ? 0 : -1;
}

bool store_visible(const struct viewer *viewer, int64_t owner_account) {
    return viewer->sees_all || viewer->account == owner_account;
}
