/* Softmax and cross-entropy. A block takes eight images, 32 threads each, which share the classes. */
#include "server/backend/cudnn/kernels/access.h"

enum { CLASS_THREADS = 32, IMAGES_AT_ONCE = KERNEL_THREADS / CLASS_THREADS };

/* What class c of an image should get: the formula of struct backend_batch. Evaluation takes neither mixup nor smoothing. */
FUNCTION float target_of(const struct kernel_loss *p, int64_t image, int32_t c) {
    const struct kernel_sample *sample = &p->samples[image];
    float share = p->dlogits ? sample->share : 1, smoothing = p->dlogits ? p->step->smoothing : 0;
    float target = sample->label == c ? share : 0;
    if (share < 1 && sample->other == c)
        target += 1 - share;
    return (1 - smoothing) * target + smoothing / (float)p->classes;
}

FUNCTION float logit(const struct kernel_loss *p, int64_t image, int32_t c) {
    return load(p->logits, image * p->cp + c, p->bf16);
}

/* The largest of a thread's classes, the lowest one on a tie; -1: it has none. */
FUNCTION int32_t largest_of_part(const struct kernel_loss *p, int64_t image, int32_t first) {
    int32_t best = first < p->classes ? first : -1;
    for (int32_t c = first + CLASS_THREADS; c < p->classes; c += CLASS_THREADS)
        if (logit(p, image, c) > logit(p, image, best))
            best = c;
    return best;
}

/* The largest of all classes from those of the 32 threads. */
FUNCTION int32_t largest_of_all(const struct kernel_loss *p, int64_t image, const int32_t *parts) {
    int32_t best = parts[0];
    for (int k = 1; k < CLASS_THREADS; k++) {
        float top = logit(p, image, best), value = parts[k] < 0 ? top : logit(p, image, parts[k]);
        if (value > top || (value == top && parts[k] >= 0 && parts[k] < best))
            best = parts[k];
    }
    return best;
}

FUNCTION double sum_of_parts(const double *parts) {
    double sum = 0;
    for (int k = 0; k < CLASS_THREADS; k++)
        sum += parts[k];
    return sum;
}

/* A thread's part of the sum of exp z; the largest logit is taken out so that nothing overflows. */
FUNCTION double part_of_exponentials(const struct kernel_loss *p, int64_t image, int32_t first, float top) {
    double sum = 0;
    for (int32_t c = first; c < p->classes; c += CLASS_THREADS)
        sum += (double)expf(logit(p, image, c) - top);
    return sum;
}

/* A thread's classes: softmax and gradient; returns its part of the loss. A class without a target adds nothing. */
FUNCTION double write_part(const struct kernel_loss *p, int64_t image, int32_t first, float top, double sum) {
    double loss = 0, log_sum = log(sum);
    float share = 1 / (float)p->step->n;
    for (int32_t c = first; c < p->classes; c += CLASS_THREADS) {
        float z = logit(p, image, c) - top, softmax = (float)((double)expf(z) / sum), target = target_of(p, image, c);
        p->softmax[image * p->classes + c] = softmax;
        loss += target > 0 ? (double)target * (log_sum - (double)z) : 0;
        if (p->dlogits)
            store(p->dlogits, image * p->cp + c, p->bf16, (softmax - target) * share);
    }
    return loss;
}

/* Zeros where there is no class or no image. */
FUNCTION void write_padding(const struct kernel_loss *p, int64_t image, int32_t first) {
    int32_t from = image < p->step->n ? p->classes : 0;
    for (int32_t c = from + first; c < p->cp && p->dlogits; c += CLASS_THREADS)
        store(p->dlogits, image * p->cp + c, p->bf16, 0);
    for (int32_t c = from + first; c < p->classes; c += CLASS_THREADS)
        p->softmax[image * p->classes + c] = 0;
}

KERNEL(loss) {
    SHARED(int32_t, largest, [KERNEL_THREADS]);
    SHARED(int32_t, best, [IMAGES_AT_ONCE]);
    SHARED(double, sums, [KERNEL_THREADS]);
    SHARED(double, losses, [KERNEL_THREADS]);
    int64_t n = p->step->n;
    for (int64_t first = (int64_t)launch->block_x * IMAGES_AT_ONCE; first < p->batch;
         first += (int64_t)launch->blocks_x * IMAGES_AT_ONCE) {
        PHASE(thread) {
            int64_t image = first + thread / CLASS_THREADS;
            if (image < n)
                largest[thread] = largest_of_part(p, image, thread % CLASS_THREADS);
            if (image < p->batch)
                write_padding(p, image, thread % CLASS_THREADS);
        }
        PHASE(thread) {
            if (first + thread < n && thread < IMAGES_AT_ONCE)
                best[thread] = largest_of_all(p, first + thread, largest + thread * CLASS_THREADS);
        }
        PHASE(thread) {
            int64_t image = first + thread / CLASS_THREADS;
            if (image < n)
                sums[thread] =
                    part_of_exponentials(p, image, thread % CLASS_THREADS, logit(p, image, best[thread / CLASS_THREADS]));
        }
        PHASE(thread) {
            int64_t image = first + thread / CLASS_THREADS;
            if (image < n)
                losses[thread] = write_part(p, image, thread % CLASS_THREADS, logit(p, image, best[thread / CLASS_THREADS]),
                                            sum_of_parts(sums + thread / CLASS_THREADS * CLASS_THREADS));
        }
        PHASE(thread) {
            int64_t image = first + thread;
            if (thread < IMAGES_AT_ONCE && image < p->batch) {
                p->losses[image] = image < n ? (float)sum_of_parts(losses + thread * CLASS_THREADS) : 0;
                p->rights[image] = image < n && best[thread] == p->samples[image].label;
            }
        }
    }
}

/* 256 threads fetch, one adds. */
KERNEL(loss_sum) {
    SHARED(float, losses, [KERNEL_THREADS]);
    SHARED(int32_t, rights, [KERNEL_THREADS]);
    SHARED(double, loss_sum, [1]);
    SHARED(int32_t, correct, [1]);
    int32_t n = p->step->n;
    if (launch->block_x > 0)
        return;
    for (int32_t first = 0; first < n; first += KERNEL_THREADS) {
        PHASE(thread) {
            if (first + (int32_t)thread < n) {
                losses[thread] = p->losses[first + (int32_t)thread];
                rights[thread] = p->rights[first + (int32_t)thread];
            }
        }
        PHASE(thread) {
            if (thread == 0) {
                double loss = first == 0 ? 0 : loss_sum[0];
                int32_t right = first == 0 ? 0 : correct[0];
                for (int32_t k = 0; k < KERNEL_THREADS && first + k < n; k++) {
                    loss += (double)losses[k];
                    right += rights[k];
                }
                loss_sum[0] = loss;
                correct[0] = right;
            }
        }
    }
    PHASE(thread) {
        if (thread == 0) {
            p->result->loss_sum = loss_sum[0];
            p->result->correct = correct[0];
        }
    }
}
