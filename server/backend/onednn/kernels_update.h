/* The optimizers' loops, part of kernels_body.h. The formulas are those of struct backend_optimizer. What pads a block is zero in
 * every array and stays zero. */

/* Halves of a vector: so many doubles fit into a register. */
typedef float vf_half __attribute__((vector_size(LANES * 2), may_alias));
typedef double vd_half __attribute__((vector_size(LANES * 4), may_alias));

/* The sums of squares are kept in double: the gradients of a net in which they vanish have squares beyond f32. */
struct update_sums {
    vd_half gradient, weight, update;
};

INLINE void add_square(vd_half *sum, const vf *value) {
    const vf_half *halves = (const vf_half *)value;
    vd_half low = __builtin_convertvector(halves[0], vd_half), high = __builtin_convertvector(halves[1], vd_half);
    *sum += low * low + high * high;
}

INLINE double lanes_sum(const vd_half *value) {
    double sum = 0.0;
    for (size_t k = 0; k < LANES / 2; k++)
        sum += (*value)[k];
    return sum;
}

/* The gradient as the optimizer takes it: clipped, with weight decay. */
INLINE void take_gradient(vf *ret_g, size_t i, const struct update *update, struct update_sums *sums) {
    vf gradient = ((const vf *)update->gradient)[i], weight = ((const vf *)update->weight)[i];
    add_square(&sums->gradient, &gradient);
    add_square(&sums->weight, &weight);
    *ret_g = update->clip * gradient + update->decay * weight;
}

INLINE void set_weight(vf *to, const vf *value, struct update_sums *sums) {
    vf moved = *value - *to;
    add_square(&sums->update, &moved);
    *to = *value;
}

static void update_done(const struct update_sums *sums, double *ret_squares) {
    ret_squares[UPDATE_GRADIENT] = lanes_sum(&sums->gradient);
    ret_squares[UPDATE_WEIGHT] = lanes_sum(&sums->weight);
    ret_squares[UPDATE_STEP] = lanes_sum(&sums->update);
}

static void sgd(const struct update *update, size_t n, double *ret_squares) {
    const struct update u = *update; /* a copy that no store can change */
    vf *w = (vf *)u.weight, *m = (vf *)u.momentum;
    struct update_sums sums = {0};
    for (size_t i = 0; i < n / LANES; i++) {
        vf g, step;
        take_gradient(&g, i, &u, &sums);
        m[i] = u.momentum_keep * m[i] + g;
        step = m[i];
        if (u.nesterov)
            step = g + u.momentum_keep * step;
        step = w[i] - u.lr * step;
        set_weight(&w[i], &step, &sums);
    }
    update_done(&sums, ret_squares);
}

/* Adam and AdamW (Kingma and Ba 2015, Loshchilov and Hutter 2019). */
static void adam(const struct update *update, size_t n, double *ret_squares) {
    const struct update u = *update; /* a copy that no store can change */
    vf *w = (vf *)u.weight, *m = (vf *)u.momentum, *s = (vf *)u.square;
    struct update_sums sums = {0};
    for (size_t i = 0; i < n / LANES; i++) {
        vf g, step;
        take_gradient(&g, i, &u, &sums);
        m[i] = u.momentum_keep * m[i] + u.momentum_take * g;
        s[i] = u.square_keep * s[i] + u.square_take * g * g;
        ROOT(&step, &s[i]);
        step = u.shrink * w[i] - u.lr * m[i] / (u.root_scale * step + u.epsilon);
        set_weight(&w[i], &step, &sums);
    }
    update_done(&sums, ret_squares);
}

static void rmsprop(const struct update *update, size_t n, double *ret_squares) {
    const struct update u = *update; /* a copy that no store can change */
    vf *w = (vf *)u.weight, *m = (vf *)u.momentum, *s = (vf *)u.square;
    struct update_sums sums = {0};
    for (size_t i = 0; i < n / LANES; i++) {
        vf g, step;
        take_gradient(&g, i, &u, &sums);
        s[i] = u.square_keep * s[i] + u.square_take * g * g;
        ROOT(&step, &s[i]);
        m[i] = u.momentum_keep * m[i] + g / (step + u.epsilon);
        step = w[i] - u.lr * m[i];
        set_weight(&w[i], &step, &sums);
    }
    update_done(&sums, ret_squares);
}

static double squares(const float *values, size_t n) {
    vd_half sum = {0};
    for (size_t i = 0; i < n / LANES; i++)
        add_square(&sum, (const vf *)values + i);
    return lanes_sum(&sum);
}

static void average(float *to, const float *values, size_t n, float keep, float take) {
    for (size_t i = 0; i < n / LANES; i++)
        ((vf *)to)[i] = keep * ((vf *)to)[i] + take * ((const vf *)values)[i];
}
