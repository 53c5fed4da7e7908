/* The listening socket and which Host headers name it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/api/private.h"

enum { BACKLOG = 511 };

/* Splits "HOST:PORT" or "[HOST]:PORT". */
static int split(const char *address, char *ret_host, size_t size, char *ret_port, size_t port_size, struct err *err) {
    const char *colon = strrchr(address, ':');
    int64_t port = 0;
    if (colon == NULL || !number_parse(colon + 1, &port) || port > 65535)
        return err_set(err, ERR_FIELD, "cannot listen on \"%.80s\": write ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:0",
                       address);
    size_t n = (size_t)(colon - address);
    bool bracketed = n >= 2 && address[0] == '[' && address[n - 1] == ']';
    if (bracketed) {
        address++;
        n -= 2;
    }
    if (n == 0 || n >= size || (!bracketed && memchr(address, ':', n) != NULL))
        return err_set(err, ERR_FIELD, "cannot listen on \"%.80s\": write ADDRESS:PORT, IPv6 addresses in brackets", address);
    memcpy(ret_host, address, n);
    ret_host[n] = '\0';
    snprintf(ret_port, port_size, "%d", (int)port);
    return 0;
}

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static bool is_any(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* What was really bound: the kernel may have picked the port. */
static int describe(struct listener *listener, const char *given, struct err *err) {
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(listener->fd, (struct sockaddr *)&bound, &size) < 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return err_errno(err, ERR_NETWORK, errno, "cannot ask which address \"%.80s\" became", given);
    listener->port = atoi(port);
    snprintf(listener->host, sizeof listener->host, bound.ss_family == AF_INET6 ? "[%s]" : "%s", host);
    snprintf(listener->address, sizeof listener->address, "http://%s:%s", listener->host, port);
    listener->any = is_any((struct sockaddr *)&bound);
    if (!is_loopback((struct sockaddr *)&bound) && gethostname(listener->name, sizeof listener->name - 1) < 0)
        listener->name[0] = '\0';
    return 0;
}

static int bind_socket(const struct addrinfo *info, const char *given, int *ret_fd, struct err *err) {
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, ERR_NETWORK, errno, "cannot open a socket for \"%.80s\"", given);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
        listen(fd, BACKLOG) < 0) {
        err_errno(err, ERR_NETWORK, errno, "cannot listen on \"%.80s\"", given);
        close(fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

int listener_open(const char *address, bool allow_remote, struct listener *ret_listener, struct err *err) {
    struct listener listener = {.fd = -1};
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *info;
    char host[64], port[8];
    if (split(address, host, sizeof host, port, sizeof port, err) < 0)
        return -1;
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, &hints, &info) != 0)
        return err_set(err, ERR_FIELD, "cannot listen on \"%.80s\": \"%s\" is not an address of digits (or localhost)", address,
                       host);
    int failed = 0;
    if (!allow_remote && !is_loopback(info->ai_addr))
        failed =
            err_set(err, ERR_FIELD,
                    "cannot listen on \"%.80s\": it is not a loopback address, and there are no accounts yet; --allow-remote "
                    "lets everyone who reaches it use this server",
                    address);
    if (failed == 0)
        failed = bind_socket(info, address, &listener.fd, err);
    freeaddrinfo(info);
    if (failed == 0 && describe(&listener, address, err) < 0) {
        close(listener.fd);
        return -1;
    }
    if (failed == 0)
        *ret_listener = listener;
    return failed;
}

static bool is_literal(const char *host) {
    unsigned char bytes[16];
    char inner[64];
    size_t n = strlen(host);
    if (inet_pton(AF_INET, host, bytes) == 1)
        return true;
    if (n < 3 || n >= sizeof inner || host[0] != '[' || host[n - 1] != ']')
        return false;
    memcpy(inner, host + 1, n - 2);
    inner[n - 2] = '\0';
    return inet_pton(AF_INET6, inner, bytes) == 1;
}

/* The name counts, not the port: behind `ssh -L 9000:localhost:8080` a browser says "localhost:9000", and a page that rebinds its
 * own name to this address cannot say "localhost" at any port. */
bool listener_is_host(const struct listener *listener, const char *host) {
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    char name[128];
    int64_t port = 0;
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (n > strlen(host) || n >= sizeof name || (host[n] != '\0' && (host[n] != ':' || !number_parse(host + n + 1, &port))))
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    if (port < 0 || port > 65535)
        return false;
    for (size_t i = 0; i < sizeof loopback / sizeof loopback[0]; i++) {
        if (strcasecmp(name, loopback[i]) == 0)
            return true;
    }
    return strcasecmp(name, listener->host) == 0 || (listener->any && is_literal(name)) ||
           (listener->name[0] != '\0' && strcasecmp(name, listener->name) == 0);
}
