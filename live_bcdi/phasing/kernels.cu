// What lies between the transforms, in float and with double sums. kernels_cuda.py says what calls it.
//
// blockIdx.y is the start; its arrays are `voxels` long (below 2^31). The blocks of a start share its voxels, so
// how they are shared, and with it every sum, does not depend on the number of starts. Sums go by thread, block
// and row in a fixed order, without atomics: the same input gives the same bits. blockDim.x is a power of two.

#define MOST_THREADS 256
#define EACH_VOXEL(k) \
    for (unsigned int k = blockIdx.x * blockDim.x + threadIdx.x; k < voxels; k += gridDim.x * blockDim.x)

__device__ size_t of_start(unsigned int voxels) { return (size_t)blockIdx.y * voxels; }

__device__ float modulus_of(float2 value) { return sqrtf(value.x * value.x + value.y * value.y); }

// The sum over the block, in its thread 0.
__device__ double block_sum(double value)
{
    __shared__ double sums[MOST_THREADS];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (unsigned int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const double total = sums[0];
    __syncthreads();
    return total;
}

// Stores the block's share of a sum: `partial` is (starts, parts, blocks).
__device__ void store(double* partial, double value, unsigned int part, unsigned int parts)
{
    const double total = block_sum(value);
    if (threadIdx.x == 0) partial[(size_t)(blockIdx.y * parts + part) * gridDim.x + blockIdx.x] = total;
}

// The sum of row blockIdx.y of `partial`, (rows, count).
__device__ double row_sum(const double* partial, unsigned int count)
{
    double sum = 0.0;
    for (unsigned int k = threadIdx.x; k < count; k += blockDim.x) sum += partial[(size_t)blockIdx.y * count + k];
    return block_sum(sum);
}

extern "C" __global__ void sum_rows(const double* partial, double* total, unsigned int count)
{
    const double sum = row_sum(partial, count);
    if (threadIdx.x == 0) total[blockIdx.y] = sum;
}

// Moduli set, phases kept, everything scaled; `amplitude` is the pattern's, for all starts.
extern "C" __global__ void set_modulus(
    float2* transform, const float* amplitude, double* partial, float scale, unsigned int voxels)
{
    float2* mine = transform + of_start(voxels);
    double error = 0.0;
    EACH_VOXEL(k) {
        float2 value = mine[k];
        const float wanted = amplitude[k], modulus = modulus_of(value);
        const bool free = wanted < 0.0f;
        const double miss = free ? 0.0f : modulus - wanted;
        error += miss * miss;
        const float factor = free ? scale : scale * wanted / fmaxf(modulus, 1e-30f);
        // a zero has no phase: take phase 0, as the numpy kernel does
        value.x = (modulus == 0.0f && !free) ? scale * wanted : value.x * factor;
        value.y *= factor;
        mine[k] = value;
    }
    store(partial, error, 0, 1);
}

extern "C" __global__ void mix(
    float2* density, const float2* projected, const bool* support, unsigned int voxels,
    float inside_projected, float inside_object, float outside_projected, float outside_object)
{
    const size_t first = of_start(voxels);
    EACH_VOXEL(k) {
        const bool inside = support[first + k];
        const float p = inside ? inside_projected : outside_projected;
        const float o = inside ? inside_object : outside_object;
        const float2 there = projected[first + k], here = density[first + k];
        density[first + k] = make_float2(p * there.x + o * here.x, p * there.y + o * here.y);
    }
}

extern "C" __global__ void mix_bands(
    float2* density, const float2* projected, const bool* support, unsigned int voxels,
    float upper, float lower, float between, float feedback)
{
    const size_t first = of_start(voxels);
    EACH_VOXEL(k) {
        const float2 there = projected[first + k], here = density[first + k];
        const float along = there.x * here.x + there.y * here.y;
        const float power = here.x * here.x + here.y * here.y;
        const bool inside = support[first + k];
        const float p = inside && along >= lower * power ? between : -feedback;
        const bool taken = inside && along >= upper * power;
        density[first + k] = taken ? there : make_float2(here.x + p * there.x, here.y + p * there.y);
    }
}

// sum S |S| over the support, real and imaginary part.
extern "C" __global__ void phase_sum(const float2* density, const bool* support, double* partial, unsigned int voxels)
{
    const size_t first = of_start(voxels);
    double real = 0.0, imaginary = 0.0;
    EACH_VOXEL(k) {
        if (!support[first + k]) continue;
        const float2 value = density[first + k];
        const float modulus = modulus_of(value);
        real += value.x * modulus;
        imaginary += value.y * modulus;
    }
    store(partial, real, 0, 2);
    store(partial, imaginary, 1, 2);
}

extern "C" __global__ void clip_phase(
    float2* density, const bool* support, const double* middle, float half_width, unsigned int voxels)
{
    const size_t first = of_start(voxels);
    const float turn_x = (float)cos(middle[blockIdx.y]), turn_y = (float)sin(middle[blockIdx.y]);
    const float ray_x = cosf(half_width), edge_y = sinf(half_width);
    EACH_VOXEL(k) {
        if (!support[first + k]) continue;
        const float2 value = density[first + k];
        const float x = value.x * turn_x + value.y * turn_y, y = value.y * turn_x - value.x * turn_y;
        const float phase = atan2f(y, x);
        if (!(fabsf(phase) > half_width)) continue;
        const float ray_y = phase > 0.0f ? edge_y : -edge_y;
        const float length = fmaxf(x * ray_x + y * ray_y, 0.0f);
        const float new_x = length * ray_x, new_y = length * ray_y;
        density[first + k] = make_float2(new_x * turn_x - new_y * turn_y, new_x * turn_y + new_y * turn_x);
    }
}

// The share of the Nyquist frequency, squared, of index i of n, zero frequency first.
__device__ float frequency_squared(unsigned int i, unsigned int n)
{
    const int steps = i < (n + 1) / 2 ? (int)i : (int)i - (int)n;
    const float share = 2.0f * steps / n;
    return share * share;
}

extern "C" __global__ void taper(
    const float* measured, float* out, float width, unsigned int depth, unsigned int rows, unsigned int columns)
{
    const unsigned int voxels = depth * rows * columns;
    EACH_VOXEL(k) {
        const float squared = frequency_squared(k / columns / rows, depth) +
            frequency_squared(k / columns % rows, rows) + frequency_squared(k % columns, columns);
        const float wanted = measured[k];
        out[k] = wanted < 0.0f ? wanted : wanted * expf(-0.5f * squared / (width * width));
    }
}

// Periodic convolution along the axis of `length` voxels that lie `stride` apart, with 2 * half + 1 taps.
extern "C" __global__ void smooth(
    const float* before, float* after, const float* taps, int half, unsigned int length, unsigned int stride,
    unsigned int voxels)
{
    const float* mine = before + of_start(voxels);
    float* out = after + of_start(voxels);
    EACH_VOXEL(k) {
        const unsigned int here = k / stride % length, line = k - here * stride;
        unsigned int there = (here + length - half % length) % length;
        float sum = 0.0f;
        for (int t = 0; t <= 2 * half; ++t) {
            sum += taps[t] * mine[line + there * stride];
            if (++there == length) there = 0;
        }
        out[k] = sum;
    }
}

extern "C" __global__ void count_above(
    const float* smoothed, const float* level, double* partial, unsigned int voxels)
{
    const float* mine = smoothed + of_start(voxels);
    const float edge = level[blockIdx.y];
    double count = 0.0;
    EACH_VOXEL(k) count += mine[k] > edge;
    store(partial, count, 0, 1);
}

// support = smoothed > level where `count`, the voxels above, is more than `fewest` and less than `most`.
extern "C" __global__ void tighten(
    const float* smoothed, const float* level, const double* count, bool* support,
    double fewest, double most, unsigned int voxels)
{
    const size_t first = of_start(voxels);
    const double above = count[blockIdx.y];
    if (!(above > fewest && above < most)) return;
    const float edge = level[blockIdx.y];
    EACH_VOXEL(k) support[first + k] = smoothed[first + k] > edge;
}

// A level with a given number of voxels at or above it, bit by bit from the highest: the bits of floats that are
// not negative are in the order of the floats. This counts the voxels at or above the bits found and `bit`.
extern "C" __global__ void count_bit(
    const float* smoothed, const unsigned int* found, double* partial, unsigned int bit, unsigned int voxels)
{
    const float* mine = smoothed + of_start(voxels);
    const unsigned int edge = found[blockIdx.y] | bit;
    double count = 0.0;
    EACH_VOXEL(k) count += __float_as_uint(mine[k]) >= edge;
    store(partial, count, 0, 1);
}

// `bit` belongs to the level where at least `enough` voxels are that high.
extern "C" __global__ void keep_bit(
    const double* partial, unsigned int* found, unsigned int count, unsigned int bit, double enough)
{
    const double reached = row_sum(partial, count);
    if (threadIdx.x == 0 && reached >= enough) found[blockIdx.y] |= bit;
}
