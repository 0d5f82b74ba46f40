// What kernels.cu needs of CUDA, for g++: one host thread is one CUDA thread, blocks run one after the other.
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
using std::size_t;

struct float2 { float x, y; };
struct dim3_ { unsigned int x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline unsigned int __float_as_uint(float value)
{
    unsigned int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

#define __global__ __attribute__((visibility("default")))
#define __device__ static
#define __shared__ static // one block at a time

static dim3_ blockDim, gridDim;
static thread_local dim3_ threadIdx, blockIdx;
static std::unique_ptr<std::barrier<>> everyone;
static void __syncthreads() { everyone->arrive_and_wait(); }

// All threads of the block come here at once, as those of a warp do; the warps are 32 threads from the first.
template <class Real>
static Real __shfl_down_sync(unsigned int, Real value, int away)
{
    static double given[1024];
    __syncthreads();
    given[threadIdx.x] = value;
    __syncthreads();
    const bool within = threadIdx.x % 32 + away < 32;
    return within ? (Real)given[threadIdx.x + away] : value;
}

extern "C" void begin(unsigned int threads, unsigned int blocks_x, unsigned int blocks_y)
{
    blockDim = {threads, 1};
    gridDim = {blocks_x, blocks_y};
    everyone = std::make_unique<std::barrier<>>(threads);
}
extern "C" void become(unsigned int thread, unsigned int block_x, unsigned int block_y)
{
    threadIdx = {thread, 0};
    blockIdx = {block_x, block_y};
}
extern "C" void meet() { __syncthreads(); }
