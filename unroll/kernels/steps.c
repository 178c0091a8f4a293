/* All steps of recurrent layers, forward and backward, for the numbers' type REAL (float or double).

Rows are independent: each thread takes a block of rows through all steps. A sum has the same order whatever the number of
rows and threads, so the results have the same bits.

Matrices are [steps, rows, size], one after the other in memory, unless strides are given. A weight matrix is packed once
for a call into panels that a tile of the product reads from first to last: for each k, NR vectors of columns. A tile is
up to TALL (NR = 3) or WIDE (NR = 4) rows; its sums stay in registers until the gates have been computed from them. */

#include <fenv.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#define TALL 8
#define WIDE 6
#elif defined(__AVX__)
#define BYTES 32
#define TALL 4
#define WIDE 3
#elif defined(__aarch64__)
#define BYTES 16
#define TALL 8
#define WIDE 6
#else
#define BYTES 16
#define TALL 4
#define WIDE 3
#endif

#ifdef DOUBLE
typedef double REAL;
typedef int64_t INT;
#else
typedef float REAL;
typedef int32_t INT;
#endif

#define V ((long)(BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8")

typedef REAL vec __attribute__((vector_size(BYTES)));
typedef INT ints __attribute__((vector_size(BYTES)));
typedef REAL vec_anywhere __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long panels_of(long units, long vectors) { return (units + vectors * V - 1) / (vectors * V); }

/* vectors */

INLINE vec all(REAL x) { return x - (vec){0}; }

static __attribute__((noinline)) vec load_few(const REAL *p, long count) {
  vec x = {0};
  for (long i = 0; i < count; i++) x[i] = p[i];
  return x;
}

static __attribute__((noinline)) void store_few(REAL *p, vec x, long count) {
  for (long i = 0; i < count; i++) p[i] = x[i];
}

/* the first `count` of them, if that is less than all */
INLINE vec load(const REAL *p, long count) {
  if (count < V) return load_few(p, count);
  return *(const vec_anywhere *)p;
}

INLINE void store(REAL *p, vec x, long count) {
  if (count < V)
    store_few(p, x, count);
  else
    *(vec_anywhere *)p = x;
}

INLINE vec chosen(ints where, vec a, vec b) { return (vec)((where & (ints)a) | (~where & (ints)b)); }

INLINE vec clamp(vec x, REAL bound) { /* NaN stays NaN */
  x = chosen(x > all(bound), all(bound), x);
  return chosen(x < all(-bound), all(-bound), x);
}

#ifdef DOUBLE
INLINE vec exponential(vec x) { /* for |x| <= 700: 2^n times Taylor's series for |r| <= ln 2 / 2 */
  const REAL shift = 6755399441055744.0; /* 1.5 x 2^52: the sum's lowest bits are the integer n */
  vec moved = x * (REAL)1.4426950408889634 + shift, n = moved - shift;
  vec r = x - n * (REAL)6.93145751953125e-1 - n * (REAL)1.42860682030941723212e-6;
  static const REAL of[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                            1. / 5040,       1. / 720,       1. / 120,      1. / 24,      1. / 6,      1. / 2};
  vec p = all(of[0]);
  for (int i = 1; i < 12; i++) p = p * r + of[i];
  p = p * r + (REAL)1;
  p = p * r + (REAL)1;
  return p * (vec)(((ints)moved << 52) + 0x3ff0000000000000);
}

INLINE vec sigmoid(vec x) { return 1 / (1 + exponential(-clamp(x, 700))); }
INLINE vec hyperbolic(vec x) { return 1 - 2 / (1 + exponential(2 * clamp(x, 22))); }
#else
INLINE vec exponential(vec x) { /* for |x| <= 87: Cephes' expf */
  const REAL shift = 12582912.f; /* 1.5 x 2^23: the sum's lowest bits are the integer n */
  vec moved = x * 1.44269504f + shift, n = moved - shift;
  vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return p * (vec)(((ints)moved << 23) + 0x3f800000);
}

INLINE vec sigmoid(vec x) { return 1 / (1 + exponential(-clamp(x, 87))); }

INLINE vec hyperbolic(vec x) { /* tanh as a quotient of polynomials, Eigen's and XLA's */
  x = clamp(x, 7.90531110763549805f);
  vec s = x * x;
  vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}
#endif

/* products */

static REAL *room(long count) {
  void *p = 0;
  return posix_memalign(&p, 64, (count + 1) * sizeof(REAL)) ? 0 : p;
}

/* Panels of W^T, W [gates x units, k]. With several gates a vector is one gate of V units and a
panel has all gates of these units; with one gate it has four vectors of units. */
static REAL *pack_transposed(const REAL *w, long gates, long units, long k) {
  long vectors = gates > 1 ? gates : 4, panels = panels_of(units, gates > 1 ? 1 : 4);
  REAL *packed = room(panels * vectors * V * k);
  for (long p = 0; packed && p < panels; p++)
    for (long n = 0; n < vectors; n++) {
      long unit = gates > 1 ? p * V : (p * vectors + n) * V, count = least(V, units - unit);
      const REAL *from = w + ((gates > 1 ? n * units : 0) + unit) * k;
      REAL *to = packed + (p * k * vectors + n) * V;
      if (count == V)
        for (long i = 0; i < k; i++, to += vectors * V)
          for (long v = 0; v < V; v++) to[v] = from[v * k + i];
      else
        for (long i = 0; i < k; i++, to += vectors * V)
          for (long v = 0; v < V; v++) to[v] = v < count ? from[v * k + i] : 0;
    }
  return packed;
}

/* Panels of four vectors of columns of W [k, columns]; the last `first` rows of W come first. */
static REAL *pack(const REAL *w, long k, long columns, long first) {
  long panels = panels_of(columns, 4);
  REAL *packed = room(panels * 4 * V * k), *to = packed;
  for (long p = 0; packed && p < panels; p++)
    for (long i = 0; i < k; i++, to += 4 * V) {
      const REAL *from = w + (i < first ? k - first + i : i - first) * columns;
      for (long c = 0; c < 4 * V; c++) to[c] = p * 4 * V + c < columns ? from[p * 4 * V + c] : 0;
    }
  return packed;
}

/* sums[row][n] = a[row] W, or that added to them, for a tile of rows and so many vectors of a panel that has `wide`; the
numbers of a row of a are `along` from each other */
INLINE void product(const int rows, const int vectors, const int wide, vec (*sums)[4], int add, const REAL *a, long apart,
                    long along, long k, const REAL *panel) {
  vec total[8][4];
  UNROLLED for (int r = 0; r < rows; r++)
    UNROLLED for (int n = 0; n < vectors; n++) total[r][n] = add ? sums[r][n] : (vec){0};
  for (long i = 0; i < k; i++, panel += wide * V, a += along) {
    vec b[4];
    UNROLLED for (int n = 0; n < vectors; n++) b[n] = *(const vec *)(panel + n * V);
    UNROLLED for (int r = 0; r < rows; r++) {
      vec x = all(a[r * apart]);
      UNROLLED for (int n = 0; n < vectors; n++) total[r][n] += x * b[n];
    }
  }
  UNROLLED for (int r = 0; r < rows; r++)
    UNROLLED for (int n = 0; n < vectors; n++) sums[r][n] = total[r][n];
}

#define CASE(rows, vectors, wide) product(rows, vectors, wide, sums, add, a, apart, along, k, panel); break;
#define ROWS(rows, wide) case rows: CASE(rows, wide, wide)
#define PART(vectors) case vectors: CASE(WIDE, vectors, 4)
#if WIDE == 6
#define WIDE_ROWS ROWS(1, 4) ROWS(2, 4) ROWS(3, 4) ROWS(4, 4) ROWS(5, 4) ROWS(6, 4)
#define TALL_ROWS ROWS(1, 3) ROWS(2, 3) ROWS(3, 3) ROWS(4, 3) ROWS(5, 3) ROWS(6, 3) ROWS(7, 3) ROWS(8, 3)
#else
#define WIDE_ROWS ROWS(1, 4) ROWS(2, 4) ROWS(3, 4)
#define TALL_ROWS ROWS(1, 3) ROWS(2, 3) ROWS(3, 3) ROWS(4, 3)
#endif

static __attribute__((noinline)) void product3(long rows, vec (*sums)[4], int add, const REAL *a, long apart, long k,
                                               const REAL *panel) {
  const long along = 1;
  switch (rows) { TALL_ROWS }
}

/* Of a panel's vectors those with the first `columns`, for all the rows of a tile */
INLINE void part_of_panel(long along, long rows, long columns, vec (*sums)[4], int add, const REAL *a, long apart, long k,
                          const REAL *panel) {
  if (rows == WIDE && columns <= 3 * V)
    switch ((columns + V - 1) / V) { PART(1) PART(2) PART(3) }
  else
    switch (rows) { WIDE_ROWS }
}

static __attribute__((noinline)) void product4_along(long along, long rows, long columns, vec (*sums)[4], int add,
                                                     const REAL *a, long apart, long k, const REAL *panel) {
  part_of_panel(along, rows, columns, sums, add, a, apart, k, panel);
}

/* The same, faster with AVX2 because 1 is a constant */
static __attribute__((noinline)) void product4(long rows, long columns, vec (*sums)[4], int add, const REAL *a,
                                               long apart, long k, const REAL *panel) {
  part_of_panel(1, rows, columns, sums, add, a, apart, k, panel);
}

/* Each tile of a thread's part of a step: panels outside, so that one stays in the cache for all rows. */
#define TILES(tall, panels)                                                                         \
  for (long panel = (panels) * part / parts; panel < (panels) * (part + 1) / parts; panel++)        \
    for (long row = first, rows; rows = least(tall, last - row), row < last; row += rows)

/* threads */

#define MOST 32 /* rounds of a Mogrifier */

typedef struct { /* of PyTorch's OpenMP: its GOMP_parallel, GOMP_barrier and omp_get_num_threads */
  void (*parallel)(void (*)(void *), void *, unsigned, unsigned), (*barrier)(void);
  int (*threads)(void);
} openmp;

typedef struct job job;
struct job {
  void (*rows)(const job *, long first, long last, long part, long parts); /* of the rows, one part of the units */
  long steps, batch, units, inputs, rounds, relu, along_time, along_rows; /* the strides of the outputs' gradient */
  REAL *const *at, *packed[2 + MOST]; /* the tensors; the weights in panels */
  const long *strides; /* of the matrices of a product, from row to row and from column to column */
  const unsigned char *resets; /* [steps, batch], or 0: where the state before a step is taken as zeros */
  long blocks, next;
  const openmp *team;
  fenv_t floats; /* the caller's handling of subnormal numbers */
};

/* After a step that the threads have shared: the next one needs all of it. */
INLINE void wait_for_all(const job *all, long parts) {
  if (parts > 1) all->team->barrier();
}

static void *work(void *given) {
  job *all = given;
  fenv_t before;
  fegetenv(&before);
  fesetenv(&all->floats);
  for (long block; (block = __atomic_fetch_add(&all->next, 1, __ATOMIC_RELAXED)) < all->blocks;)
    all->rows(all, all->batch * block / all->blocks, all->batch * (block + 1) / all->blocks, 0, 1);
  fesetenv(&before);
  return 0;
}

static void work_of_openmp(void *given) { work(given); }

static void work_on_units(void *given) {
  job *all = given;
  fenv_t before;
  fegetenv(&before);
  fesetenv(&all->floats);
  all->rows(all, 0, all->batch, __atomic_fetch_add(&all->next, 1, __ATOMIC_RELAXED), all->team->threads());
  fesetenv(&before);
}

/* By the threads of PyTorch's OpenMP, or by new ones. Each takes a block of rows through all steps; or, by units, all
take a part of each step. */
static void divide(job *all, long threads, int by_units) {
  pthread_t others[64];
  int started = 0;
  fegetenv(&all->floats);
  if (threads > 1 && by_units && all->team) {
    all->team->parallel(work_on_units, all, threads, 0);
    return;
  }
  all->blocks = least(least(threads, all->batch), 64);
  if (all->blocks > 1 && all->team) {
    all->team->parallel(work_of_openmp, all, all->blocks, 0);
    return;
  }
  while (started < all->blocks - 1 && !pthread_create(&others[started], 0, work, all)) started++;
  work(all);
  while (started) pthread_join(others[--started], 0);
}

/* Whether a row's state is taken as zeros before step t */
INLINE int begins(const job *all, long t, long row) {
  return all->resets && t < all->steps && all->resets[t * all->batch + row];
}

INLINE const REAL *grad_at(const job *all, long tensor, long t, long row) {
  return all->at[tensor] + t * all->along_time + row * all->along_rows;
}

/* GRU: r = s(.), z = s(.), m = W_hn h + b_hn, n = tanh(. + r m), h' = n + z (h - n) */

enum { GRU_GATES, GRU_W, GRU_BIAS, GRU_HS, GRU_M, GRU_GRAD, GRU_D, GRU_DH };

static void gru_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, wide = 3 * units;
  vec sums[8][4];
  for (long t = 0; t < all->steps; t++) {
    long at = t * all->batch;
    const REAL *before = all->at[GRU_HS] + at * units;
    TILES(TALL, panels_of(units, 1)) {
      long j = panel * V, count = units - j;
      product3(rows, sums, 0, before + row * units, units, units, all->packed[0] + panel * units * 3 * V);
      vec bias = load(all->at[GRU_BIAS] + j, count);
      for (long r = 0; r < rows; r++) {
        vec h = load(before + (row + r) * units + j, count);
        if (begins(all, t, row + r)) h = sums[r][0] = sums[r][1] = sums[r][2] = (vec){0};
        REAL *gates = all->at[GRU_GATES] + (at + row + r) * wide + j;
        REAL *after = all->at[GRU_HS] + (at + all->batch + row + r) * units + j;
        vec reset = sigmoid(sums[r][0] + load(gates, count)), z = sigmoid(sums[r][1] + load(gates + units, count));
        vec m = sums[r][2] + bias, n = hyperbolic(load(gates + 2 * units, count) + reset * m);
        store(after, n + z * (h - n), count);
        if (all->at[GRU_M]) {
          store(gates, reset, count);
          store(gates + units, z, count);
          store(gates + 2 * units, n, count);
          store(all->at[GRU_M] + (at + row + r) * units + j, m, count);
        }
      }
    }
    wait_for_all(all, parts);
  }
}

/* From the gradient of the state after a step those of its gates, (m, r, z, n), and a part of that of the state before */
static void gru_back_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, wide = 4 * units;
  vec sums[8][4];
  for (long t = all->steps; t >= 0; t--) {
    long at = t * all->batch, earlier = at - all->batch;
    TILES(WIDE, panels_of(units, 4)) {
      if (t < all->steps)
        product4(rows, units - panel * 4 * V, sums, 0, all->at[GRU_D] + (at + row) * wide, wide, 3 * units,
                 all->packed[0] + panel * 3 * units * 4 * V);
      else
        memset(sums, 0, sizeof sums);
      for (long r = 0; r < rows; r++) {
        long here = earlier + row + r;
        for (long n = 0, j = panel * 4 * V; n < 4 && j < units; n++, j += V) {
          long count = units - j;
          REAL *dh = all->at[GRU_DH] + (row + r) * units + j;
          vec total = begins(all, t, row + r) ? (vec){0} : load(dh, count) + sums[r][n];
          if (!t) {
            store(dh, total, count);
            continue;
          }
          const REAL *gates = all->at[GRU_GATES] + here * 3 * units + j;
          vec h = begins(all, t - 1, row + r) ? (vec){0} : load(all->at[GRU_HS] + here * units + j, count);
          REAL *d = all->at[GRU_D] + here * wide + j;
          vec reset = load(gates, count), z = load(gates + units, count), new = load(gates + 2 * units, count);
          vec m = load(all->at[GRU_M] + here * units + j, count);
          total += load(grad_at(all, GRU_GRAD, t - 1, row + r) + j, count);
          vec d_new = total * (1 - z) * (1 - new * new), d_m = d_new * reset;
          store(d, d_m, count);
          store(d + units, d_m * m * (1 - reset), count);
          store(d + 2 * units, total * (h - new) * z * (1 - z), count);
          store(d + 3 * units, d_new, count);
          store(dh, total * z, count);
        }
      }
    }
    wait_for_all(all, parts);
  }
}

/* LSTM: i, f, o = s(.), g = tanh(.), c' = f c + i g, h' = o tanh(c') */

enum { LSTM_GATES, LSTM_HS, LSTM_CS, LSTM_TANH, LSTM_GRAD, LSTM_D, LSTM_DH, LSTM_DC, LSTM_W };

/* From the sums of V units' gates for some rows, and what is added to them, the next state */
INLINE void lstm_units(const job *all, long t, long row, long rows, long j, vec (*sums)[4], const REAL *add, long apart) {
  long units = all->units, count = units - j;
  for (long r = 0; r < rows; r++, add += apart) {
    long here = t * all->batch + row + r, after = here + all->batch;
    int begin = begins(all, t, row + r);
    if (begin) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = (vec){0};
    vec i = sigmoid(sums[r][0] + load(add + j, count)), f = sigmoid(sums[r][1] + load(add + units + j, count));
    vec g = hyperbolic(sums[r][2] + load(add + 2 * units + j, count));
    vec o = sigmoid(sums[r][3] + load(add + 3 * units + j, count));
    vec c = begin ? (vec){0} : f * load(all->at[LSTM_CS] + here * units + j, count);
    c += i * g;
    vec tanh_c = hyperbolic(c);
    store(all->at[LSTM_CS] + after * units + j, c, count);
    store(all->at[LSTM_HS] + after * units + j, o * tanh_c, count);
    if (all->at[LSTM_TANH]) {
      REAL *gates = all->at[LSTM_GATES] + here * 4 * units + j;
      store(gates, i, count);
      store(gates + units, f, count);
      store(gates + 2 * units, g, count);
      store(gates + 3 * units, o, count);
      store(all->at[LSTM_TANH] + here * units + j, tanh_c, count);
    }
  }
}

/* From the gradient of h after step t, and that of c, those of the gates and of c before it */
INLINE void lstm_unit_back(const job *all, long t, long row, long j, vec dh) {
  long units = all->units, count = units - j, here = t * all->batch + row;
  const REAL *gates = all->at[LSTM_GATES] + here * 4 * units + j;
  REAL *d = all->at[LSTM_D] + here * 4 * units + j, *d_c = all->at[LSTM_DC] + row * units + j;
  vec i = load(gates, count), f = load(gates + units, count);
  vec g = load(gates + 2 * units, count), o = load(gates + 3 * units, count);
  vec tanh_c = load(all->at[LSTM_TANH] + here * units + j, count);
  vec dc = dh * o * (1 - tanh_c * tanh_c) + load(d_c, count), none = {0};
  int begin = begins(all, t, row);
  store(d, dc * g * i * (1 - i), count);
  store(d + units, begin ? none : dc * load(all->at[LSTM_CS] + here * units + j, count) * f * (1 - f), count);
  store(d + 2 * units, dc * i * (1 - g * g), count);
  store(d + 3 * units, dh * tanh_c * o * (1 - o), count);
  store(d_c, begin ? none : dc * f, count);
}

static void lstm_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, wide = 4 * units;
  vec sums[8][4];
  for (long t = 0; t < all->steps; t++) {
    TILES(WIDE, panels_of(units, 1)) {
      long here = t * all->batch + row;
      if (all->packed[0])
        product4(rows, 4 * V, sums, 0, all->at[LSTM_HS] + here * units, units, units,
                 all->packed[0] + panel * units * 4 * V);
      else
        memset(sums, 0, sizeof sums);
      lstm_units(all, t, row, rows, panel * V, sums, all->at[LSTM_GATES] + here * wide, wide);
    }
    wait_for_all(all, parts);
  }
}

static void lstm_back_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, wide = 4 * units;
  vec sums[8][4];
  for (long t = all->steps; t >= 0; t--) {
    TILES(WIDE, panels_of(units, 4)) {
      if (t < all->steps)
        product4(rows, units - panel * 4 * V, sums, 0, all->at[LSTM_D] + (t * all->batch + row) * wide, wide, wide,
                 all->packed[0] + panel * wide * 4 * V);
      for (long r = 0; r < rows; r++)
        for (long n = 0, j = panel * 4 * V; n < 4 && j < units; n++, j += V) {
          REAL *dh = all->at[LSTM_DH] + (row + r) * units + j;
          vec total = t < all->steps ? sums[r][n] : load(dh, units - j);
          if (begins(all, t, row + r)) total = (vec){0};
          if (t)
            lstm_unit_back(all, t - 1, row + r, j, total + load(grad_at(all, LSTM_GRAD, t - 1, row + r) + j, units - j));
          else
            store(dh, total, units - j);
        }
    }
    wait_for_all(all, parts);
  }
}

/* RNN: h' = tanh(.) or relu(.) */

enum { RNN_INPUTS, RNN_W, RNN_HS, RNN_GRAD, RNN_D, RNN_DH };

static void rnn_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units;
  vec sums[8][4];
  for (long t = 0; t < all->steps; t++) {
    TILES(WIDE, panels_of(units, 4)) {
      long here = t * all->batch + row;
      product4(rows, units - panel * 4 * V, sums, 0, all->at[RNN_HS] + here * units, units, units,
               all->packed[0] + panel * units * 4 * V);
      for (long r = 0; r < rows; r++)
        for (long n = 0, j = panel * 4 * V; n < 4 && j < units; n++, j += V) {
          vec h = load(all->at[RNN_INPUTS] + (here + r) * units + j, units - j);
          if (!begins(all, t, row + r)) h += sums[r][n];
          h = all->relu ? chosen(h < (vec){0}, (vec){0}, h) : hyperbolic(h);
          store(all->at[RNN_HS] + (here + r + all->batch) * units + j, h, units - j);
        }
    }
    wait_for_all(all, parts);
  }
}

static void rnn_back_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units;
  vec sums[8][4];
  for (long t = all->steps; t >= 0; t--) {
    TILES(WIDE, panels_of(units, 4)) {
      long here = t * all->batch + row; /* of the state that step t - 1 has made */
      if (t < all->steps)
        product4(rows, units - panel * 4 * V, sums, 0, all->at[RNN_D] + here * units, units, units,
                 all->packed[0] + panel * units * 4 * V);
      for (long r = 0; r < rows; r++)
        for (long n = 0, j = panel * 4 * V; n < 4 && j < units; n++, j += V) {
          long count = units - j;
          REAL *dh = all->at[RNN_DH] + (row + r) * units + j;
          vec total = t < all->steps ? sums[r][n] : load(dh, count);
          if (begins(all, t, row + r)) total = (vec){0};
          if (!t) {
            store(dh, total, count);
            continue;
          }
          vec h = load(all->at[RNN_HS] + (here + r) * units + j, count);
          total += load(grad_at(all, RNN_GRAD, t - 1, row + r) + j, count);
          total = all->relu ? chosen(h > (vec){0}, total, (vec){0}) : total * (1 - h * h);
          store(all->at[RNN_D] + (here + r - all->batch) * units + j, total, count);
        }
    }
    wait_for_all(all, parts);
  }
}

/* Mogrifier: v' = v + tanh(Q other + bias) v in turn for the inputs (even rounds) and the state (odd ones), the versions
0 and 1; then the LSTM with the last two */

enum {
  MOG_W_HH = LSTM_W + 1,
  MOG_BIAS,
  MOG_DX,
  MOG_VERSIONS,
  MOG_TURNS = MOG_VERSIONS + MOST + 2,
  MOG_WEIGHTS = MOG_TURNS + MOST,
  MOG_BIASES = MOG_WEIGHTS + MOST,
  MOG_D_TURNS = MOG_BIASES + MOST
};

INLINE long size_of(const job *all, long version) { return version % 2 ? all->units : all->inputs; }

INLINE REAL *version_at(const job *all, long version, long here) {
  return all->at[MOG_VERSIONS + version] + here * size_of(all, version);
}

static void mogrifier_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, inputs = all->inputs, rounds = all->rounds;
  vec sums[8][4];
  for (long t = 0; t < all->steps; t++) {
    long at = t * all->batch;
    for (long round = 0; round < rounds; round++) {
      long size = size_of(all, round), other = size_of(all, round + 1);
      TILES(WIDE, panels_of(size, 4)) {
        product4(rows, size - panel * 4 * V, sums, 0, version_at(all, round + 1, at + row), other, other,
                 all->packed[2 + round] + panel * other * 4 * V);
        for (long r = 0; r < rows; r++)
          for (long n = 0, j = panel * 4 * V; n < 4 && j < size; n++, j += V) {
            long here = at + row + r, count = size - j;
            vec turn = hyperbolic(sums[r][n] + load(all->at[MOG_BIASES + round] + j, count));
            vec v = load(version_at(all, round, here) + j, count);
            store(all->at[MOG_TURNS + round] + here * size + j, turn, count);
            store(version_at(all, round + 2, here) + j, v + turn * v, count);
          }
      }
    }
    long of_x = rounds + rounds % 2, of_h = rounds + 1 - rounds % 2; /* the last versions */
    TILES(WIDE, panels_of(units, 1)) {
      product4(rows, 4 * V, sums, 0, version_at(all, of_x, at + row), inputs, inputs,
               all->packed[0] + panel * inputs * 4 * V);
      product4(rows, 4 * V, sums, 1, version_at(all, of_h, at + row), units, units,
               all->packed[1] + panel * units * 4 * V);
      lstm_units(all, t, row, rows, panel * V, sums, all->at[MOG_BIAS], 0);
    }
  }
}

/* to = or += a W, for some rows and W of so many columns */
static void multiply(long first, long last, REAL *to, long columns, int add, const REAL *a, long k, const REAL *packed) {
  const long part = 0, parts = 1;
  vec sums[8][4];
  TILES(WIDE, panels_of(columns, 4)) {
    product4(rows, columns - panel * 4 * V, sums, 0, a + row * k, k, k, packed + panel * k * 4 * V);
    for (long r = 0; r < rows; r++)
      for (long n = 0, j = panel * 4 * V; n < 4 && j < columns; n++, j += V) {
        REAL *here = to + (row + r) * columns + j;
        store(here, add ? sums[r][n] + load(here, columns - j) : sums[r][n], columns - j);
      }
  }
}

static void mogrifier_back_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, inputs = all->inputs, batch = all->batch;
  for (long t = all->steps - 1; t >= 0; t--) {
    REAL *dh = all->at[LSTM_DH], *dx = all->at[MOG_DX] + t * batch * inputs;
    for (long row = first; row < last; row++)
      for (long j = 0; j < units; j += V)
        lstm_unit_back(all, t, row, j,
                       load(dh + row * units + j, units - j) + load(grad_at(all, LSTM_GRAD, t, row) + j, units - j));
    const REAL *d = all->at[LSTM_D] + t * batch * 4 * units;
    multiply(first, last, dx, inputs, 0, d, 4 * units, all->packed[0]);
    multiply(first, last, dh, units, 0, d, 4 * units, all->packed[1]);
    for (long round = all->rounds - 1; round >= 0; round--) {
      long size = size_of(all, round), at = t * batch * size;
      REAL *scaled = round % 2 ? dh : dx, *d_turn = all->at[MOG_D_TURNS + round] + at;
      const REAL *v = all->at[MOG_VERSIONS + round] + at, *turns = all->at[MOG_TURNS + round] + at;
      for (long row = first; row < last; row++)
        for (long j = 0; j < size; j += V) {
          long here = row * size + j, count = size - j;
          vec turn = load(turns + here, count), grad = load(scaled + here, count);
          store(d_turn + here, grad * load(v + here, count) * (1 - turn * turn), count);
          store(scaled + here, grad + grad * turn, count);
        }
      multiply(first, last, round % 2 ? dx : dh, size_of(all, round + 1), 1, d_turn, size, all->packed[2 + round]);
    }
  }
}

/* One step of an LSTM for a few rows, without gradients: to pack the weights would take longer than the products, so they
are read as they lie. */

enum { STEP_X, STEP_H, STEP_C, STEP_W_IH, STEP_W_HH, STEP_B_IH, STEP_B_HH, STEP_H_AFTER, STEP_C_AFTER };

INLINE REAL sum_of(vec x) {
  REAL lanes[BYTES / sizeof(REAL)];
  *(vec_anywhere *)lanes = x;
  for (long half = V / 2; half; half /= 2)
    for (long v = 0; v < half; v++) lanes[v] += lanes[v + half];
  return lanes[0];
}

/* The product of a [k] and each of the first `count` rows, V at most, of W [.., k] */
static __attribute__((noinline)) vec products_with(const REAL *a, const REAL *w, long k, long count) {
  vec products = {0};
  for (long n = 0; n < least(count, V); n++, w += k) {
    vec total[4] = {{0}};
    long i = 0;
    for (; i + 4 * V <= k; i += 4 * V)
      UNROLLED for (int u = 0; u < 4; u++) total[u] += load(w + i + u * V, V) * load(a + i + u * V, V);
    for (; i < k; i += V) total[0] += load(w + i, k - i) * load(a + i, k - i);
    products[n] = sum_of((total[0] + total[1]) + (total[2] + total[3]));
  }
  return products;
}

/* What goes into a gate of V units of a row */
INLINE vec into_gate(const job *all, long row, long gate, long j) {
  long units = all->units, inputs = all->inputs, at = gate * units + j, count = units - j;
  vec of_x = products_with(all->at[STEP_X] + row * inputs, all->at[STEP_W_IH] + at * inputs, inputs, count);
  vec of_h = products_with(all->at[STEP_H] + row * units, all->at[STEP_W_HH] + at * units, units, count);
  return (of_x + load(all->at[STEP_B_IH] + at, count)) + (of_h + load(all->at[STEP_B_HH] + at, count));
}

static void lstm_step_rows(const job *all, long first, long last, long part, long parts) {
  long units = all->units, panels = panels_of(units, 1);
  for (long panel = panels * part / parts; panel < panels * (part + 1) / parts; panel++)
    for (long row = first; row < last; row++) {
      long j = panel * V, count = units - j, at = row * units + j;
      vec i = sigmoid(into_gate(all, row, 0, j)), f = sigmoid(into_gate(all, row, 1, j));
      vec g = hyperbolic(into_gate(all, row, 2, j)), o = sigmoid(into_gate(all, row, 3, j));
      vec c = f * load(all->at[STEP_C] + at, count) + i * g;
      store(all->at[STEP_C_AFTER] + at, c, count);
      store(all->at[STEP_H_AFTER] + at, o * hyperbolic(c), count);
    }
}

/* C = A B, or that and a bias for each column. A sum is made of sums of DEPTH terms, which is more exact too. */

enum { MATMUL_A, MATMUL_B, MATMUL_BIAS, MATMUL_C };
enum { A_DOWN, A_RIGHT, B_DOWN, B_RIGHT }; /* the strides */
#define DEPTH 128 /* rows of B of which a panel is in the first-level cache, */
#define GROUP 8   /* and so many panels in the second-level one */
#define SHORT 512 /* terms of a sum, up to which B is packed whole */
#define SOME 48   /* rows, a multiple of WIDE */
#define COPIES (V == 8 ? 3 : 4) /* panels, from which on it takes less time to copy a transposed A */

/* Some panels of some rows of B [.., columns] */
static void pack_part(REAL *to, const job *all, long begin, long depth, long from, long until) {
  long columns = all->units, down = all->strides[B_DOWN], right = all->strides[B_RIGHT];
  for (long j = from * 4 * V; j < until * 4 * V; j += 4 * V, to += depth * 4 * V) {
    const REAL *b = all->at[MATMUL_B] + begin * down + j * right;
    long count = least(4 * V, columns - j);
    if (right == 1 && count == 4 * V)
      for (long i = 0; i < depth; i++) memcpy(to + i * 4 * V, b + i * down, 4 * BYTES);
    else
      for (long c = 0; c < 4 * V; c++)
        for (long i = 0; i < depth; i++) to[i * 4 * V + c] = c < count ? b[i * down + c * right] : 0;
  }
}

/* Adds `depth` terms to the sums of up to SOME rows and of the columns of some panels, from what pack_part has made of B.
A transposed A is copied, a tile's rows side by side, if it is read for several panels. */
static void add_terms(const job *all, long first, long last, long from, long until, long begin, long depth,
                      const REAL *packed) {
  long columns = all->units, apart = all->strides[A_DOWN], along = all->strides[A_RIGHT];
  const REAL *terms = all->at[MATMUL_A] + first * apart + begin * along;
  REAL copied[SOME * DEPTH];
  int copies = along != 1 && until - from >= COPIES;
  for (long row = first; copies && row < last; row += WIDE)
    for (long i = 0, rows = least(WIDE, last - row); i < depth; i++)
      for (long r = 0; r < rows; r++)
        copied[(row - first) * depth + i * WIDE + r] = terms[(row - first + r) * apart + i * along];
  vec sums[8][4];
  for (long panel = from; panel < until; panel++, packed += depth * 4 * V)
    for (long row = first, rows; rows = least(WIDE, last - row), row < last; row += rows) {
      if (copies)
        product4_along(WIDE, rows, columns - panel * 4 * V, sums, 0, copied + (row - first) * depth, 1, depth, packed);
      else
        product4_along(along, rows, columns - panel * 4 * V, sums, 0, terms + (row - first) * apart, apart, depth, packed);
      for (long r = 0; r < rows; r++)
        for (long n = 0, j = panel * 4 * V; n < 4 && j < columns; n++, j += V) {
          REAL *c = all->at[MATMUL_C] + (row + r) * columns + j;
          const REAL *before = begin ? c : all->at[MATMUL_BIAS] ? all->at[MATMUL_BIAS] + j : 0;
          store(c, before ? sums[r][n] + load(before, columns - j) : sums[r][n], columns - j);
        }
    }
}

/* Sums of up to SHORT terms are completed for SOME rows, which stay in the cache until then, from a B that is packed
whole; of more, for all rows DEPTH terms at a time. */
static void matmul_rows(const job *all, long first, long last, long part, long parts) {
  long k = all->inputs, panels = panels_of(all->units, 4);
  REAL packed[DEPTH * GROUP * 4 * V] __attribute__((aligned(BYTES)));
  for (long from = 0, until; until = least(from + GROUP, panels), from < panels; from = until)
    if (k <= SHORT)
      for (long row = first; row < last; row += SOME)
        for (long begin = 0, depth; depth = least(DEPTH, k - begin), begin < k; begin += depth)
          add_terms(all, row, least(row + SOME, last), from, until, begin, depth,
                    all->packed[0] + (begin * panels + from * depth) * 4 * V);
    else
      for (long begin = 0, depth; depth = least(DEPTH, k - begin), begin < k; begin += depth) {
        pack_part(packed, all, begin, depth, from, until);
        for (long row = first; row < last; row += SOME)
          add_terms(all, row, least(row + SOME, last), from, until, begin, depth, packed);
      }
}

/* All panels of the first DEPTH rows of B, then those of the next */
static REAL *pack_whole(const job *all) {
  long k = all->inputs, panels = panels_of(all->units, 4);
  REAL *packed = room(k * panels * 4 * V);
  for (long begin = 0; packed && begin < k; begin += DEPTH)
    pack_part(packed + begin * panels * 4 * V, all, begin, least(DEPTH, k - begin), 0, panels);
  return packed;
}

/* What Python calls: int f(sizes, tensors, resets or 0, threads, by units, OpenMP or 0), whether there was memory for the
weights. The sizes are those at the head of `job`, in its order; for matmul, with the columns as units and the terms of a
sum as inputs, the last four are the strides. */

static int run(job *all, long weights, long threads, int by_units) {
  int complete = 1;
  for (long i = 0; i < weights; i++) complete &= all->packed[i] != 0;
  if (complete) divide(all, threads, by_units);
  for (long i = 0; i < weights; i++) free(all->packed[i]);
  return complete;
}

#define EXPORT(name, weights, ...)                                                                 \
  int name(const long *n, REAL *const *at, const unsigned char *resets, int threads, int by_units, \
           const openmp *team) {                                                                   \
    long units = n[2], inputs = n[3], rounds = n[4];                                               \
    job all = {.rows = name##_rows, .steps = n[0], .batch = n[1], .units = units,                  \
               .inputs = inputs, .rounds = rounds, .relu = n[5], .along_time = n[6],               \
               .along_rows = n[7], .strides = n + 4, .at = at, .resets = resets, .team = team};    \
    REAL **packed = all.packed;                                                                    \
    __VA_ARGS__                                                                                    \
    return run(&all, weights, threads, by_units);                                                  \
  }

EXPORT(gru, 1, packed[0] = pack_transposed(at[GRU_W], 3, units, units);)
EXPORT(lstm_step, 0, packed[0] = 0;)
/* A step whose product with the weights is in LSTM_GATES */
#define lstm_gates_rows lstm_rows
EXPORT(lstm_gates, 0, packed[0] = 0;)
EXPORT(gru_back, 1, packed[0] = pack(at[GRU_W], 3 * units, units, units);)
EXPORT(lstm, 1, packed[0] = pack_transposed(at[LSTM_W], 4, units, units);)
EXPORT(lstm_back, 1, packed[0] = pack(at[LSTM_W], 4 * units, units, 0);)
EXPORT(rnn, 1, packed[0] = pack_transposed(at[RNN_W], 1, units, units);)
EXPORT(rnn_back, 1, packed[0] = pack(at[RNN_W], units, units, 0);)
/* A Mogrifier's threads have rows of their own: its rounds would have to wait too often. */
EXPORT(mogrifier, 2 + rounds,
  by_units = 0;
  packed[0] = pack_transposed(at[LSTM_W], 4, units, inputs);
  packed[1] = pack_transposed(at[MOG_W_HH], 4, units, units);
  for (long i = 0; i < rounds; i++)
    packed[2 + i] = pack_transposed(at[MOG_WEIGHTS + i], 1, size_of(&all, i), size_of(&all, i + 1));)
EXPORT(mogrifier_back, 2 + rounds,
  by_units = 0;
  packed[0] = pack(at[LSTM_W], 4 * units, inputs, 0);
  packed[1] = pack(at[MOG_W_HH], 4 * units, units, 0);
  for (long i = 0; i < rounds; i++)
    packed[2 + i] = pack(at[MOG_WEIGHTS + i], size_of(&all, i), size_of(&all, i + 1), 0);)
EXPORT(matmul, inputs <= SHORT,
  by_units = 0;
  packed[0] = inputs > SHORT ? 0 : pack_whole(&all);)
