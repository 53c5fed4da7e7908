/* The strict double of a GPU, for tests on machines without one: it fills the function table of server/backend/cudnn/driver.h
 * with functions that compute on the processor and end the process with a sentence ("double: ...") when the backend breaks a rule
 * that a GPU would not even notice. What its files share is here; how tests set it up, in options.c.
 *
 * An address of the device lies in a reservation that traps whenever the host touches it; the bytes lie in a shadow at a fixed
 * distance, which only the double touches. Work is queued and done as late as it can be: when a synchronization needs it. */
#ifndef TESTS_GPU_DOUBLE_H
#define TESTS_GPU_DOUBLE_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/kernels/host.h"

/* --- options.c: what the environment says --- */

enum fault_kind {
    FAULT_NONE,
    FAULT_OOM,
    FAULT_STICKY,
    FAULT_ECC,
    FAULT_LOST,
    FAULT_HANG,
    FAULT_CAPTURE,
    FAULT_REMAP,
    FAULT_WRONG,
    FAULT_BUSY
};

enum { DEVICES_MAX = 8 };

struct options {
    int devices;         /* RESIDUUM_DOUBLE_DEVICES, 1 */
    size_t memory_bytes; /* RESIDUUM_DOUBLE_MEMORY: bytes of each device, 16 GiB */
    uint64_t seed;       /* RESIDUUM_DOUBLE_SEED: in which order what may go in any order goes; 0: as it came */
    bool own_cudnn;      /* RESIDUUM_DOUBLE_CUDNN=own: not the real cuDNN, even where it is installed */
    /* RESIDUUM_DOUBLE_FAULT: "oom:3" "sticky:700@120" "ecc@9" "lost@9" "remap@9" "hang@9" "capture" "busy" "wrong:norm_apply@3",
     * or the path of a file of that, beginning with "/" */
    struct {
        enum fault_kind kind;
        int code;
        long at;        /* the allocation, or the operation of a stream, counted from 1 */
        char of[48];    /* of FAULT_WRONG: what the name of the operation holds; only such ones count */
        char once[256]; /* PATH.happened, which is made with the fault: where it is, no other process has the fault again */
    } fault;
    char profile[2048]; /* of RESIDUUM_DOUBLE_PROFILE, "h100": the file of that name in server/graph/profiles */
};

void options_read(struct options *ret_options);
/* A number of the profile, the index-th of an array. A key that is missing is a mistake of the test. */
long long options_property(const struct options *options, const char *key, int index);

/* --- report.c --- */

/* Says which rule was broken, and ends the process. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Memory of the double itself, zeroed; there is always some. */
void *must_allocate(size_t bytes);
/* Traps are told in words from now on; until report_done. */
void report_init(void);
void report_done(void);

/* --- object.c: handles; they stay readable until the end, so that the use of a destroyed one is noticed --- */

enum object_kind { OBJECT_STREAM, OBJECT_EVENT, OBJECT_MODULE, OBJECT_GRAPH, OBJECT_EXEC, OBJECT_CUDNN, OBJECT_DESCRIPTOR };

enum { OBJECT_BUCKETS = 1024 };
struct object {
    enum object_kind kind;
    bool live;
    struct object *next;
};

void *object_new(enum object_kind kind, size_t bytes);
/* Ends the process unless the handle is one of the kind, and not destroyed. */
void object_check(const void *handle, enum object_kind kind, const char *function);
void object_destroy(void *handle, enum object_kind kind, const char *function);
void objects_done(void);

/* --- memory.c: device memory --- */

struct region {
    struct region *next;
    CUdeviceptr at;
    size_t bytes;
    char name[48];
};

struct block {
    CUdeviceptr at;
    size_t bytes;      /* as asked for */
    CUdeviceptr pages; /* where its pages start */
    size_t pages_bytes;
    bool live, restricted;  /* restricted: ASan guards it while a kernel runs */
    int device;             /* as device_physical counts */
    struct region *regions; /* begun and not ended; none: the block is used as a whole */
};

/* Ends the process unless the bytes are live memory, inside one region where the block has any. what names who asks. */
void memory_check(CUdeviceptr at, size_t bytes, const char *what);
void *memory_shadow(CUdeviceptr at);
ptrdiff_t memory_shift(void);
bool memory_is_device(uint64_t address);
/* Bytes from an address to the end of its smallest region, or of its block. */
size_t memory_left(CUdeviceptr at);
void memory_describe(uint64_t address, char *ret_text, size_t size);
void memory_poison(void *at, size_t bytes);
struct access;
/* With ASan: of the blocks of these n parts only the parts may be touched until memory_release. */
void memory_restrict(const struct access *accesses, int n);
void memory_release(void);
void memory_init(void);
void memory_done(void);

/* --- pinned.c: host memory that the device reaches --- */

/* Whether an address is pinned; ends the process when the bytes leave its allocation. */
bool pinned_has(const void *at, size_t bytes, const char *what);
/* What a queued copy reads is write-protected until it was done. Calls nest. */
void pinned_protect(const void *at);
void pinned_unprotect(const void *at);
bool pinned_describe(uint64_t address, char *ret_text, size_t size);
void pinned_done(void);

/* --- stream.c: queues --- */

enum { STREAMS_MAX = 16, ACCESSES_MAX = 16, PARAMS_MAX = 512, POINTERS_MAX = 24 };

/* Of each stream, how many of its operations have been done, or must be. */
struct clock {
    uint64_t at[STREAMS_MAX];
};

struct access {
    uint64_t at; /* of the device, or of pinned memory */
    size_t bytes;
    bool reads, writes;
    size_t element; /* writes all of it, in elements of so many bytes; 0: perhaps only some of it */
    const char *what;
};

struct descriptor;
struct op {
    struct op *next;
    char name[96];
    struct clock clock; /* what must be done before it; of its own stream: its own number */
    CUstream stream;
    struct access accesses[ACCESSES_MAX];
    int accesses_n;
    void (*run)(const struct op *op);
    union {
        struct {
            uint64_t to, from;
            size_t bytes;
        } copy;
        struct {
            CUdeviceptr at;
            uint32_t value;
            size_t count, width;
        } set;
        struct {
            const struct kernel_c *kernel;
            struct kernel_grid grid;
            unsigned char params[PARAMS_MAX];
        } launch;
        struct {
            const struct descriptor *plan;
            int64_t uids[POINTERS_MAX];
            CUdeviceptr pointers[POINTERS_MAX], workspace;
            int n;
        } execute;
        CUevent event;
    };
};

/* An operation that nobody has queued yet. */
struct op op_new(const char *name, void (*run)(const struct op *op));
void op_access(struct op *op, uint64_t at, size_t bytes, bool reads, bool writes, const char *what);
bool access_overlap(const struct access *a, const struct access *b);
/* Around a computation: what it shall write all of is poisoned before, and searched for poison afterwards. */
void op_poison(const struct op *op);
void op_check_written(const struct op *op);
/* Ends the process unless everything that it touches is there. */
void op_check(const struct op *op);
/* Checks it, and queues a copy in the stream, or adds one to the graph that is captured. */
CUresult op_submit(const struct op *op, CUstream stream);
/* Does all that the clock names, in an order that the seed chooses. */
CUresult stream_run(const struct clock *target);
CUresult stream_run_all(void);

struct CUstream_st {
    struct object object;
    int slot;
    struct op *head, *tail; /* not done yet */
    struct clock clock;     /* what the next operation comes after */
    struct capture *capture;
    struct clock captured; /* the same within the capture */
};

struct CUevent_st {
    struct object object;
    bool recorded;
    struct clock clock;
    struct capture *capture; /* recorded in this one; then the clock is of the capture */
    double done_ms;          /* when the device came to it; below 0: it did not yet */
};

void clock_merge(struct clock *clock, const struct clock *other);
/* Ends the process when op and an operation of the list that it does not come after touch the same bytes. */
void race_check(const struct op *op, const struct op *list);

/* --- graph.c: capture --- */

struct capture {
    pthread_t thread;
    CUstream origin;
    struct op *head, *tail;
    bool invalidated;
    struct clock numbers; /* operations so far, of each stream */
};

CUresult capture_add(struct capture *capture, const struct op *op, CUstream stream);
/* A call that must not be made while this thread captures: invalidates the capture and returns true. */
bool capture_refuses(void);

/* --- launch.c, spans.c: kernels --- */

/* Adds what a kernel reads and writes to op. now: it is about to run, so that what stands in device memory (the number of images,
 * the tables of chunks) can be looked at; before that such parts count as long as their memory is. */
void spans_of(struct op *op, int kernel, const void *params, bool now);

/* --- fault.c --- */

/* Begins every call: what the device answers to anything once it has failed; CUDA_SUCCESS to go on. */
enum call_kind {
    CALL_PLAIN,
    CALL_SYNC,   /* not while capturing */
    CALL_CLEANUP /* gives something back: its error need not be looked at */
};
CUresult call_begin(const char *function, enum call_kind kind);
/* Ends every call that can fail: an error must be looked at (cuGetErrorName) before the next call of work. */
CUresult call_end(const char *function, CUresult result);
void call_looked_at(CUresult result);
bool fault_allocation(void); /* whether this one fails */
void fault_operation(void);  /* counts one that is done */
bool fault_capture(void);
bool fault_context(void);
/* Counts an operation that has computed, and turns the signs of its results when it is the one that shall be wrong. */
void fault_result(const struct op *op);
/* Whether the fault of a kind is there, in this process or since another one (PATH.happened). */
bool fault_happened(enum fault_kind kind);

/* --- descriptor.c, handle.c, validate.c: cuDNN --- */

struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t n;
    void *values; /* of descriptors: our own */
};

struct descriptor {
    struct object object;
    cudnnBackendDescriptorType_t type;
    cudnnBackendDescriptor_t real; /* NULL without the real cuDNN */
    bool final;
    struct attribute *attributes;
    int attributes_n;
    const struct descriptor *graph; /* of engines and their configurations that cuDNN named: the graph asked about */
    bool narrow_products;           /* of a plan: its engine takes f32 inputs as tf32 */
    int64_t workspace_bytes;        /* of a plan */
};

struct cudnnContext {
    struct object object;
    cudaStream_t stream;
};

const struct attribute *descriptor_attribute(const struct descriptor *descriptor, cudnnBackendAttributeName_t name);
/* The index-th value, which must be there. */
int64_t descriptor_integer(const struct descriptor *descriptor, cudnnBackendAttributeName_t name, int index);
const struct descriptor *descriptor_child(const struct descriptor *descriptor, cudnnBackendAttributeName_t name, int index);
size_t descriptor_type_bytes(cudnnBackendAttributeType_t type);
/* NULL, or what is missing. */
const char *validate_descriptor(const struct descriptor *descriptor);

/* The real cuDNN's functions; NULL members without it. */
struct real {
#define REAL_MEMBER(function) __typeof__(&function) function;
    CUDNN_FUNCTIONS(REAL_MEMBER)
#undef REAL_MEMBER
};
void real_open(struct real *ret_real);

/* Frees what a descriptor holds. */
void descriptor_forget(struct object *object);
cudnnStatus_t execute_plan(cudnnHandle_t handle, const struct descriptor *plan, const struct descriptor *pack);

/* --- tensor.c, conv.c, norm.c: what plans compute --- */

struct tensor {
    int64_t uid;
    cudnnDataType_t type;
    int dims_n;
    int64_t dims[5], strides[5];
    int64_t alignment;
    bool is_virtual, by_value;
};

struct tensor tensor_of(const struct descriptor *descriptor);
size_t tensor_bytes(const struct tensor *tensor); /* from its first to its last element */
size_t tensor_element_bytes(const struct tensor *tensor);
int64_t tensor_count(const struct tensor *tensor);
/* [n, h, w, c] doubles of [n, c, h, w] dims, and back, rounded to the type. */
double *tensor_gather(const struct tensor *tensor, const void *from, bool as_tf32);
void tensor_scatter(const struct tensor *tensor, const double *values, void *to);
/* Runs a convolution, or a graph of batch norm; pointers of the uids by look-up. */
void conv_run(const struct descriptor *operation, const struct op *op);
void norm_run(const struct descriptor *graph, const struct op *op);
void *execute_pointer(const struct op *op, int64_t uid);
float execute_value(const struct op *op, int64_t uid); /* of a tensor by value, as it was when the plan was queued */

/* --- open.c: CUDA's functions have no argument for it, so the state of the double is one for the process --- */

struct state {
    int opened; /* how often */
    struct options options;
    struct object *objects[OBJECT_BUCKETS];
    bool initialized;
    CUdevice current; /* whose context is current; -1: none */
    int retained[DEVICES_MAX];
    unsigned flags[DEVICES_MAX]; /* of primary contexts */
    size_t used[DEVICES_MAX];
    struct {
        unsigned char *addresses, *shadow; /* the two reservations */
        size_t next;                       /* of the next allocation */
        struct block *blocks;
        int blocks_n, blocks_room;
    } memory;
    struct pinned *pinned;
    CUstream streams[STREAMS_MAX];
    struct clock host, done, numbers; /* what the host has waited for; what was done; what was queued */
    struct op *recent;                /* done, but the host does not know yet */
    uint64_t random;
    struct capture *capture;
    struct {
        CUresult sticky, unseen; /* all calls fail so; an error that nobody has looked at */
        const char *unseen_of;
        long allocations, operations, results;
        bool happened, told; /* told: as an event of NVML */
    } fault;
    struct real real;
};

struct state *state(void);
void device_done(void);
/* A device's number when hidden ones are counted, too; its "GPU-..." by that number. */
int device_physical(CUdevice device);
void device_id(int device, char ret_id[64]);

/* Each puts its file's functions into the table. */
void device_fill(struct gpu_driver *driver);
void memory_fill(struct gpu_driver *driver);
void pinned_fill(struct gpu_driver *driver);
void stream_fill(struct gpu_driver *driver);
/* cuStreamWaitEvent, which no program calls while everything is in one stream: tests of the double make two go together. */
CUresult event_wait(CUstream stream, CUevent event);
void event_fill(struct gpu_driver *driver);
void copy_fill(struct gpu_driver *driver);
void launch_fill(struct gpu_driver *driver);
void graph_fill(struct gpu_driver *driver);
void descriptor_fill(struct gpu_driver *driver);
void handle_fill(struct gpu_driver *driver);

#endif
