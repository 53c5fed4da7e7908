/* The version of everything in this repository. */
#ifndef COMMON_VERSION_H
#define COMMON_VERSION_H

#define RESIDUUM_VERSION "0.1.0"
enum { RESIDUUM_API = 1 }; /* of the HTTP interface, the "/v1" of its paths */

#endif
