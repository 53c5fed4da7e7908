/* The dashboard's files: read once at start into a table, found by exact name, so that no request reaches the file system. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/sha256.h"
#include "server/api/private.h"

enum { FILES_MAX = 1000, DEPTH_MAX = 8, FILE_BYTES_MAX = 16 * 1024 * 1024, TOTAL_BYTES_MAX = 64 * 1024 * 1024, ETAG_SIZE = 24 };

struct variant {
    char *data; /* NULL: there is none */
    size_t size;
    char etag[ETAG_SIZE];
};

struct file {
    char *path; /* "/app.js" */
    const char *type;
    bool immutable;
    struct variant plain, gzip;
};

struct web {
    struct file *files;
    size_t n, bytes;
};

static const struct {
    const char *suffix, *type;
} types[] = {{".html", "text/html; charset=utf-8"},
             {".js", "text/javascript; charset=utf-8"},
             {".mjs", "text/javascript; charset=utf-8"},
             {".css", "text/css; charset=utf-8"},
             {".json", "application/json"},
             {".map", "application/json"},
             {".svg", "image/svg+xml"},
             {".png", "image/png"},
             {".ico", "image/x-icon"},
             {".webp", "image/webp"},
             {".woff2", "font/woff2"},
             {".webmanifest", "application/manifest+json"},
             {".txt", "text/plain; charset=utf-8"},
             {".md", "text/plain; charset=utf-8"}};

static bool ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n > m && strcmp(text + n - m, suffix) == 0;
}

static const char *type_of(const char *path) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (ends_with(path, types[i].suffix))
            return types[i].type;
    }
    return "application/octet-stream";
}

/* A name with a hash of its content ("app-1f2e3d4c.js") can be kept for ever. */
static bool is_hashed(const char *path) {
    const char *dot = strrchr(path, '.'), *start = dot;
    while (start != NULL && start > path && strchr("0123456789abcdef", start[-1]) != NULL)
        start--;
    return start != NULL && start > path && dot - start >= 8 && (start[-1] == '-' || start[-1] == '.');
}

static int read_variant(struct web *web, const char *full, const char *mark, struct variant *ret_variant, struct err *err) {
    char digest[65];
    struct variant variant = {0};
    if (file_read(full, FILE_BYTES_MAX, &variant.data, &variant.size, err) < 0)
        return -1;
    web->bytes += variant.size;
    if (web->bytes > TOTAL_BYTES_MAX) {
        free(variant.data);
        return err_set(err, ERR_TOO_LARGE, "the dashboard's files are larger than %d MiB at \"%s\"", TOTAL_BYTES_MAX >> 20, full);
    }
    sha256_hex(variant.data, variant.size, digest);
    snprintf(variant.etag, sizeof variant.etag, "\"%.16s%s\"", digest, mark);
    *ret_variant = variant;
    return 0;
}

static int add_file(struct web *web, const char *full, const char *path, struct err *err) {
    char compressed[4100];
    if (web->n == FILES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the dashboard has more than %d files", FILES_MAX);
    struct file *file = &web->files[web->n];
    *file = (struct file){.path = strdup(path), .type = type_of(path), .immutable = is_hashed(path)};
    if (file->path == NULL)
        return err_set(err, ERR_MEMORY, "cannot load the dashboard: out of memory");
    web->n++;
    if (read_variant(web, full, "", &file->plain, err) < 0)
        return -1;
    snprintf(compressed, sizeof compressed, "%s.gz", full);
    struct stat status;
    return stat(compressed, &status) < 0 ? 0 : read_variant(web, compressed, "-gz", &file->gzip, err);
}

/* A ".gz" beside its plain file is that file's second form, not a file of its own. */
static bool is_second_form(const char *full) {
    char plain[4096];
    struct stat status;
    if (!ends_with(full, ".gz"))
        return false;
    snprintf(plain, sizeof plain, "%.*s", (int)(strlen(full) - 3), full);
    return stat(plain, &status) == 0;
}

static int load_dir(struct web *web, const char *dir, const char *prefix, int depth, struct err *err);

static int load_entry(struct web *web, const char *dir, const char *prefix, const char *name, int depth, struct err *err) {
    char full[4096], path[1024];
    struct stat status;
    if (name[0] == '.')
        return 0;
    if (snprintf(full, sizeof full, "%s/%s", dir, name) >= (int)sizeof full ||
        snprintf(path, sizeof path, "%s/%s", prefix, name) >= (int)sizeof path)
        return err_set(err, ERR_IO, "the path of a dashboard file is too long in \"%.200s\"", dir);
    if (stat(full, &status) < 0)
        return 0;
    if (S_ISDIR(status.st_mode))
        return depth == DEPTH_MAX ? err_set(err, ERR_IO, "dashboard folders are nested too deep at \"%.200s\"", full)
                                  : load_dir(web, full, path, depth + 1, err);
    return !S_ISREG(status.st_mode) || is_second_form(full) ? 0 : add_file(web, full, path, err);
}

static int load_dir(struct web *web, const char *dir, const char *prefix, int depth, struct err *err) {
    DIR *entries = opendir(dir);
    struct dirent *entry;
    int failed = 0;
    if (entries == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no folder \"%.200s\" with the dashboard's files", dir);
    while (failed == 0 && (entry = readdir(entries)) != NULL)
        failed = load_entry(web, dir, prefix, entry->d_name, depth, err);
    closedir(entries);
    return failed;
}

struct web *web_load(const char *dir, struct err *err) {
    struct web *web = calloc(1, sizeof *web);
    if (web != NULL)
        web->files = calloc(FILES_MAX, sizeof *web->files);
    if (web == NULL || web->files == NULL) {
        err_set(err, ERR_MEMORY, "cannot load the dashboard: out of memory");
        web_free(web);
        return NULL;
    }
    if (load_dir(web, dir, "", 0, err) == 0)
        return web;
    web_free(web);
    return NULL;
}

void web_free(struct web *web) {
    if (web == NULL)
        return;
    for (size_t i = 0; i < web->n; i++) {
        free(web->files[i].path);
        free(web->files[i].plain.data);
        free(web->files[i].gzip.data);
    }
    free(web->files);
    free(web);
}

static const struct file *find(const struct web *web, const char *path) {
    if (strcmp(path, "/") == 0)
        path = "/index.html";
    for (size_t i = 0; web != NULL && i < web->n; i++) {
        if (strcmp(web->files[i].path, path) == 0)
            return &web->files[i];
    }
    return NULL;
}

bool web_has(const struct web *web, const char *path) {
    return find(web, path) != NULL;
}

/* Whether a list in a header ("gzip, br") has a word that is not switched off by "q=0". */
static bool lists(const char *header, const char *word) {
    size_t size = strlen(word);
    while (header != NULL && *header != '\0') {
        header += strspn(header, ", \t");
        size_t n = strcspn(header, ",");
        if (strncmp(header, word, size) == 0 && (n == size || strchr(" \t;", header[size]) != NULL)) {
            const char *quality = memmem(header, n, "q=", 2);
            return quality == NULL || strtod(quality + 2, NULL) > 0;
        }
        header += n;
    }
    return false;
}

/* If-None-Match compares weakly (RFC 9110, 13.1.2): "W/" is no difference. */
static bool matches(const char *header, const char *etag) {
    while (header != NULL && *header != '\0') {
        header += strspn(header, ", \t");
        size_t n = strcspn(header, ",");
        const char *tag = strncmp(header, "W/", 2) == 0 ? header + 2 : header;
        size_t size = strcspn(tag, ", \t");
        if (*header == '*' || (size == strlen(etag) && strncmp(tag, etag, size) == 0))
            return true;
        header += n;
    }
    return false;
}

static int add_file_headers(struct request *request, const struct file *file, const struct variant *variant, struct err *err) {
    if (answer_header(request, MHD_HTTP_HEADER_ETAG, variant->etag, err) < 0 ||
        answer_header(request, MHD_HTTP_HEADER_CACHE_CONTROL,
                      file->immutable ? "public, max-age=31536000, immutable" : "no-cache", err) < 0)
        return -1;
    return file->gzip.data == NULL ? 0 : answer_header(request, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING, err);
}

int handle_file(struct request *request, struct err *err) {
    const struct file *file = find(request->api->web, request->target.path);
    if (file == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no such file");
    bool gzip = file->gzip.data != NULL && lists(request_header(request, MHD_HTTP_HEADER_ACCEPT_ENCODING), "gzip");
    const struct variant *variant = gzip ? &file->gzip : &file->plain;
    int failed;
    if (matches(request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH), variant->etag))
        failed = answer_response(request, MHD_HTTP_NOT_MODIFIED, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT),
                                 err);
    else
        failed = answer_bytes(request, MHD_HTTP_OK, file->type, variant->data, variant->size, err);
    if (failed == 0 && gzip)
        failed = answer_header(request, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip", err);
    return failed < 0 ? -1 : add_file_headers(request, file, variant, err);
}
