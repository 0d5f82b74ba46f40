// The march along the characteristics: loops.py and coupling.py for a GPU. cuda.py says what calls it.
//
// A block is a row of the crystal (blockIdx.x), a thread an angle: neighbouring threads read neighbouring numbers.
// The 2 x 2 matrices of the next CHUNK voxels are made by a thread each, kept in shared memory and used by all.
// Sums over the angles go through the warps' registers and then from warp to warp in a fixed order, without
// atomics: the same input gives the same bits. blockDim.x is the number of places for angles, a multiple of `width`
// and of WARP, at most MOST_THREADS.

#define MOST_THREADS 256 // so many have the registers and, in double, the shared memory that `backward` needs
#define WARP 32
#define TERMS 8

#ifndef REAL
#define REAL float
#endif
#ifndef CHUNK
#define CHUNK 64
#endif
typedef REAL real;

struct number {
    real x, y;
};

__device__ number make(real x, real y)
{
    number a;
    a.x = x;
    a.y = y;
    return a;
}
__device__ number operator+(number a, number b) { return make(a.x + b.x, a.y + b.y); }
__device__ number operator-(number a, number b) { return make(a.x - b.x, a.y - b.y); }
__device__ number operator*(number a, number b) { return make(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
__device__ number operator*(real a, number b) { return make(a * b.x, a * b.y); }
__device__ number conj_(number a) { return make(a.x, -a.y); }
__device__ number exp_(number a)
{
    const real size = exp(a.x);
    return make(size * cos(a.y), size * sin(a.y));
}

struct exponent {
    number grows, d, cosh, sinhc, slope, b, c;
};

// What the elements of the matrix, of its inverse and of its derivative are made of.
__device__ exponent exponent_of(number s, real s0, const number* generator, int times)
{
    exponent out;
    out.b = generator[2];
    out.c = generator[3];
    out.grows = exp_((real)0.5 * s0 * (generator[0] + generator[1]));
    out.d = (real)0.5 * s0 * (generator[0] - generator[1]);
    number v = out.d * out.d + (s.x * s.x + s.y * s.y) * (out.b * out.c);
    for (int k = 0; k < times; k++) v = (real)0.25 * v;
    real even = 1, odd = 1; // 1 / (2n)!, 1 / (2n + 1)!
    for (int n = 1; n < TERMS; n++) {
        even /= (2 * n - 1) * (2 * n);
        odd /= (2 * n) * (2 * n + 1);
    }
    out.cosh = out.sinhc = out.slope = make(0, 0);
    for (int n = TERMS - 1; n >= 0; n--) {
        out.cosh = out.cosh * v + make(even, 0);
        out.sinhc = out.sinhc * v + make(odd, 0);
        out.slope = out.slope * v + make((n + 1) * odd / ((2 * n + 2) * (2 * n + 3)), 0);
        if (n > 0) {
            even *= (2 * n - 1) * (2 * n);
            odd *= (2 * n) * (2 * n + 1);
        }
    }
    for (int k = 0; k < times; k++) {
        out.slope = (real)0.25 * (out.slope * out.cosh + (real)0.5 * (out.sinhc * out.sinhc));
        out.sinhc = out.sinhc * out.cosh;
        out.cosh = (real)2 * (out.cosh * out.cosh) - make(1, 0);
    }
    return out;
}

__device__ void matrix_of(const exponent& e, number s, number* m)
{
    m[0] = e.grows * (e.cosh + e.d * e.sinhc);
    m[1] = e.grows * e.b * conj_(s) * e.sinhc;
    m[2] = e.grows * e.c * s * e.sinhc;
    m[3] = e.grows * (e.cosh - e.d * e.sinhc);
}

// The exponential of what is negative.
__device__ void inverse_of(exponent e, number s, number* m)
{
    const real size = e.grows.x * e.grows.x + e.grows.y * e.grows.y;
    e.grows = ((real)1 / size) * conj_(e.grows);
    e.d = (real)-1 * e.d;
    e.b = (real)-1 * e.b;
    e.c = (real)-1 * e.c;
    matrix_of(e, s, m);
}

// Where the real part of this thread's angle is in an axis of angles; the imaginary part is `width` further.
__device__ size_t lane(int width) { return (size_t)(threadIdx.x / width) * 2 * width + threadIdx.x % width; }

__device__ number load(const real* from, int width) { return make(from[0], from[width]); }

__device__ void store(real* to, int width, number value)
{
    to[0] = value.x;
    to[width] = value.y;
}

extern "C" __global__ void forward(const number* density, const real* s0, const long long* boxes,
                                   const number* generator, const int* shape, const real* turn, real* e0, real* fh)
{
    const int slices = shape[0], across = shape[1], past = shape[2], shift = shape[3];
    const int times = shape[4], width = shape[5];
    const size_t row = blockIdx.x, angles = 2 * (size_t)blockDim.x, my = lane(width);
    const long long* box = boxes + 4 * row;
    const number p = load(turn + my, width);
    __shared__ number table[CHUNK][4];
    for (long long j = box[0]; j < box[1]; j++) {
        for (long long first = box[2]; first < box[3]; first += CHUNK) {
            const int count = first + CHUNK < box[3] ? CHUNK : (int)(box[3] - first);
            const size_t voxel = (row * slices + j) * across + first;
            __syncthreads(); // the table before is not wanted any more
            for (int k = threadIdx.x; k < count; k += blockDim.x)
                matrix_of(exponent_of(density[voxel + k], s0[voxel + k], generator, times), density[voxel + k], table[k]);
            __syncthreads();
            real* e_at = e0 + (row * (across + past) + first + j * shift) * angles + my;
            real* f_at = fh + (row * across + first) * angles + my;
            for (int k = 0; k < count; k++, e_at += angles, f_at += angles) {
                const number *m = table[k], e = load(e_at, width), f = p * load(f_at, width);
                store(e_at, width, m[0] * e + m[1] * f);
                store(f_at, width, m[2] * e + m[3] * f);
            }
        }
    }
}

// The sum over the warp, in its first thread.
__device__ real sum_up(real value)
{
    for (int away = WARP / 2; away > 0; away /= 2) value += __shfl_down_sync(0xffffffffu, value, away);
    return value;
}

__device__ void pull_back(const exponent& e, number s, const number* generator, number* by, number* by_s, real* by_s0)
{
    const number mean = (real)0.5 * (generator[0] + generator[1]), up = e.grows * e.b * e.sinhc;
    const number down = e.grows * e.c * e.sinhc, split = conj_(e.grows) * (by[0] - by[3]), both = by[0] + by[3];
    const number by_t = conj_(e.grows * e.cosh) * both + conj_(e.d * e.sinhc) * split + conj_(up * conj_(s)) * by[1]
        + conj_(down * s) * by[2];
    const number by_h = conj_(e.d) * split + conj_(e.grows) * (conj_(e.b) * s * by[1] + conj_(e.c * s) * by[2]);
    const number by_w = (real)0.5 * (conj_(e.sinhc * e.grows) * both) + conj_(e.slope) * by_h;
    const number by_d = conj_(e.sinhc) * split + (real)2 * (conj_(e.d) * by_w);
    *by_s = up * conj_(by[1]) + conj_(down) * by[2] + (real)2 * (conj_(e.b * e.c) * by_w).x * s;
    *by_s0 = (conj_(mean) * by_t).x + (real)0.5 * (conj_(generator[0] - generator[1]) * by_d).x;
}

extern "C" __global__ void backward(const number* density, const real* s0, const long long* boxes,
                                    const number* generator, const int* shape, const real* turn, real* e0, real* fh,
                                    real* by_e0, real* by_fh, number* by_density, real* by_s0, real* by_turn)
{
    __shared__ number table[CHUNK][4], inverse[CHUNK][4], sums[CHUNK][MOST_THREADS / WARP][4];
    const int slices = shape[0], across = shape[1], past = shape[2], shift = shape[3];
    const int times = shape[4], width = shape[5];
    const size_t row = blockIdx.x, angles = 2 * (size_t)blockDim.x, my = lane(width);
    const long long* box = boxes + 4 * row;
    const number p = load(turn + my, width);
    real phase = 0;
    for (long long j = box[1] - 1; j >= box[0]; j--) {
        for (long long first = box[2]; first < box[3]; first += CHUNK) {
            const int count = first + CHUNK < box[3] ? CHUNK : (int)(box[3] - first);
            const size_t voxel = (row * slices + j) * across + first;
            __syncthreads();
            for (int k = threadIdx.x; k < count; k += blockDim.x) {
                const exponent made = exponent_of(density[voxel + k], s0[voxel + k], generator, times);
                matrix_of(made, density[voxel + k], table[k]);
                inverse_of(made, density[voxel + k], inverse[k]);
            }
            __syncthreads();
            size_t of_e = (row * (across + past) + first + j * shift) * angles + my;
            size_t of_f = (row * across + first) * angles + my;
            for (int k = 0; k < count; k++, of_e += angles, of_f += angles) {
                const number *m = table[k], *back = inverse[k];
                const number after_e = load(e0 + of_e, width), after_f = load(fh + of_f, width);
                const number ge = load(by_e0 + of_e, width), gf = load(by_fh + of_f, width);
                const number e = back[0] * after_e + back[1] * after_f, f = back[2] * after_e + back[3] * after_f;
                const number u = conj_(m[1]) * ge + conj_(m[3]) * gf;
                phase += u.y * f.x - u.x * f.y;
                store(e0 + of_e, width, e);
                store(fh + of_f, width, conj_(p) * f);
                store(by_e0 + of_e, width, conj_(m[0]) * ge + conj_(m[2]) * gf);
                store(by_fh + of_f, width, conj_(p) * u);
                const number by[4] = {ge * conj_(e), ge * conj_(f), gf * conj_(e), gf * conj_(f)};
                for (int part = 0; part < 4; part++) {
                    const number sum = make(sum_up(by[part].x), sum_up(by[part].y));
                    if (threadIdx.x % WARP == 0) sums[k][threadIdx.x / WARP][part] = sum;
                }
            }
            __syncthreads();
            for (int k = threadIdx.x; k < count; k += blockDim.x) {
                number by[4] = {make(0, 0), make(0, 0), make(0, 0), make(0, 0)};
                for (unsigned int warp = 0; warp < blockDim.x / WARP; warp++)
                    for (int part = 0; part < 4; part++) by[part] = by[part] + sums[k][warp][part];
                const exponent made = exponent_of(density[voxel + k], s0[voxel + k], generator, times);
                pull_back(made, density[voxel + k], generator, by, by_density + voxel + k, by_s0 + voxel + k);
            }
        }
    }
    by_turn[row * angles + my] = phase;
}
