// SPDX-License-Identifier: Apache-2.0
// What is asynchronous on compute capability 9.0: barriers in shared memory, copies of boxes, products of warpgroups.
// Boxes land when nothing else can go on, or when the schedule draws them, and what they go to is poison meanwhile. The
// products of a warp happen when it waits for them, and their sums are poison till then.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "simt.h"

namespace dlcore {
namespace emulator {

namespace {

constexpr int POISON = 0xff, CHUNK = 16, ROW = 128, PATTERN = 1024;  // bytes
constexpr int WARP = 32, WARPS = 4, FRAGMENT = 16, DEPTH = 16;       // DEPTH: of a product
constexpr Barrier TAG = 0x6d62617272696572;

struct Phase {
  int arrivals, pending;
  int64_t bytes = 0;  // that are expected
  uint32_t parity = 0;
  bool published = false;
};

struct Box {
  uint32_t to;
  const BoxMap* map;
  Place place;
  uint32_t barrier;
  uint32_t bytes() const { return uint32_t(2 * map->box[0] * map->box[1] * map->box[2] * map->box[3]); }
};

// Sums of a warp, (16, columns), while products on their way add to them.
struct WarpSums {
  float* lanes[WARP];
  std::vector<float> values;
  int products = 0;
};

struct Warp {
  std::map<float*, WarpSums> sums;           // by those of the first lane
  std::vector<std::vector<Product>> groups;  // the last one open
  bool fenced = false;
};

struct Async {
  uint32_t shared_bytes;
  std::map<uint32_t, Phase> barriers;
  std::vector<Box> boxes;
  std::vector<uint8_t> coming;  // boxes on their way to each chunk
  std::set<const void*> acquired;
  std::vector<Warp> warps;
};

Async async;

uint32_t swizzled(uint32_t address) { return address ^ (address / ROW % 8 * CHUNK); }

// ---- barriers
// nullptr: there is none at this address
Phase* phase_at(uint32_t address) {
  const auto found = async.barriers.find(address);
  Barrier word;
  if (found == async.barriers.end()) return nullptr;
  std::memcpy(&word, here.shared + address, sizeof word);
  return word == TAG ? &found->second : nullptr;
}

Phase& phase_of(const Barrier& barrier) {
  Phase* phase = phase_at(uint32_t(reinterpret_cast<const char*>(&barrier) - here.shared));
  if (phase == nullptr) report("expected a barrier that was made and left alone, got none");
  return *phase;
}

void end_phase(Phase& phase) {
  if (phase.pending == 0 && phase.bytes == 0) phase.parity ^= 1, phase.pending = phase.arrivals;
}

// ---- copies
void land(size_t index) {
  const Box box = async.boxes[index];
  async.boxes.erase(async.boxes.begin() + std::ptrdiff_t(index));
  const BoxMap& map = *box.map;
  uint32_t to = box.to;
  for (int64_t w = box.place.w; w < box.place.w + int64_t(map.box[3]); ++w) {
    for (int64_t z = box.place.z; z < box.place.z + int64_t(map.box[2]); ++z) {
      for (int64_t y = box.place.y; y < box.place.y + int64_t(map.box[1]); ++y) {
        for (int64_t x = box.place.x; x < box.place.x + int64_t(map.box[0]); ++x, to += 2) {
          const int64_t at[] = {x, y, z, w};
          bool inside = true;
          for (int d = 0; d < 4; ++d) inside = inside && at[d] >= 0 && at[d] < int64_t(map.sizes[d]);
          uint16_t value = 0;
          const uint64_t from = map.address + uint64_t(2 * x + y * int64_t(map.strides[0]) +
                                                       z * int64_t(map.strides[1]) + w * int64_t(map.strides[2]));
          if (inside) std::memcpy(&value, reinterpret_cast<const void*>(from), sizeof value);
          std::memcpy(here.shared + swizzled(to), &value, sizeof value);
        }
      }
    }
  }
  for (uint32_t c = box.to; c < to; c += CHUNK) --async.coming[c / CHUNK];
  Phase& phase = async.barriers.at(box.barrier);
  phase.bytes -= box.bytes();
  end_phase(phase);
}

// ---- products
// f(address, row or column, depth) of the 16 bytes from there on, along the depth, or down: along rows or columns
template <class F>
void for_chunks(const Matrix& m, int first, int count, F f) {
  const auto field = [&](int bit) { return uint32_t(m.descriptor >> bit & 0x3fff) * 16; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  if (m.down) {
    for (int i = first; i < first + count; i += 8) {
      for (int k = 0; k < DEPTH; ++k) {
        f(swizzled(start + uint32_t(i / 64) * leading + uint32_t(i % 64) * 2 + uint32_t(k / 8) * stride +
                   uint32_t(k % 8) * ROW),
          i, k);
      }
    }
  } else {
    for (int i = first; i < first + count; ++i) {
      for (int k = 0; k < DEPTH; k += 8) {
        f(swizzled(start + uint32_t(i / 8) * stride + uint32_t(i % 8) * ROW + uint32_t(k) * 2), i, k);
      }
    }
  }
}

const char* fault_of(const Matrix& m, int first, int count) {
  if (m.descriptor >> 62 != 1) return "expected a descriptor of rows of 128 bytes that are swizzled, got another";
  if ((m.descriptor >> 49 & 7) != (m.descriptor >> 3 & 7)) {
    return "expected a descriptor whose patterns begin at multiples of 1024 bytes, got another";
  }
  const char* fault = nullptr;
  for_chunks(m, first, count, [&](uint32_t address, int, int) {
    if (address + CHUNK > async.shared_bytes) {
      fault = "expected a descriptor of shared memory, got one that reaches beyond";
    } else if (fault == nullptr && async.coming[address / CHUNK] > 0) {
      fault = "expected products of what has come, got copies on their way";
    }
  });
  return fault;
}

// to(row or column, depth, value)
template <class F>
void read(const Matrix& m, int first, int count, F to) {
  for_chunks(m, first, count, [&](uint32_t address, int i, int k) {
    for (int e = 0; e < 8; ++e) {
      uint16_t bits;
      std::memcpy(&bits, here.shared + address + 2 * e, sizeof bits);
      const double value = from_word<float>(uint64_t(bits) << 16);
      m.down ? to(i + e, k, value) : to(i, k + e, value);
    }
  });
}

// f(a lane's sum, row, column)
template <class F>
void for_sums(WarpSums& sums, int blocks, F f) {
  for (int lane = 0; lane < WARP; ++lane) {
    for (int i = 0; i < 4 * blocks; ++i) {
      f(sums.lanes[lane][i], lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2);
    }
  }
}

const char* multiply(const Product& p, WarpSums& sums) {
  const int cols = 8 * p.blocks, row = int(p.thread) / WARP % WARPS * FRAGMENT;
  if (const char* fault = fault_of(p.a, row, FRAGMENT)) return fault;
  if (const char* fault = fault_of(p.b, 0, cols)) return fault;
  std::vector<double> a(FRAGMENT * DEPTH), b(size_t(DEPTH * cols));  // (16, depth), (blocks, depth, 8)
  read(p.a, row, FRAGMENT, [&](int i, int k, double x) { a[size_t((i - row) * DEPTH + k)] = x; });
  read(p.b, 0, cols, [&](int i, int k, double x) { b[size_t((i / 8 * DEPTH + k) * 8 + i % 8)] = x; });
  if (!p.adds) std::fill(sums.values.begin(), sums.values.end(), 0.0f);
  const bool finite = std::all_of(b.begin(), b.end(), [](double x) { return std::isfinite(x); });
  for (int i = 0; i < FRAGMENT; ++i) {
    const auto row_of_a = a.begin() + i * DEPTH;
    if (finite && std::all_of(row_of_a, row_of_a + DEPTH, [](double x) { return x == 0; }))
      continue;  // changes nothing
    for (int j = 0; j < p.blocks; ++j) {
      cut_product(&a[size_t(i * DEPTH)], &b[size_t(j * DEPTH * 8)], &sums.values[size_t(i * cols + 8 * j)]);
    }
  }
  return nullptr;
}

const Product& product_of(void* given) { return *static_cast<const Product*>(given); }

bool alike(const Product& a, const Product& b) {
  return a.a.descriptor == b.a.descriptor && a.b.descriptor == b.b.descriptor && a.adds == b.adds;
}

}  // namespace

// ---- barriers
void init_barrier(Barrier& barrier, int arrivals) {
  const uint32_t address = uint32_t(reinterpret_cast<char*>(&barrier) - here.shared);
  if (address % sizeof barrier != 0 || address + sizeof barrier > async.shared_bytes) {
    report("expected a barrier in shared memory, got one outside");
  }
  barrier = TAG, async.barriers[address] = {arrivals, arrivals};
}

void publish_barriers() {
  for (auto& barrier : async.barriers) barrier.second.published = true;
}

void arrive(Barrier& barrier, int bytes) {
  Phase& phase = phase_of(barrier);
  if (phase.pending == 0) report("expected as many arrivals as the barrier waits for, got one more");
  phase.bytes += bytes, --phase.pending;
  end_phase(phase);
}

void wait_barrier(Barrier& barrier, uint32_t parity) {
  const Phase& phase = phase_of(barrier);
  wait_until([&phase, parity] { return phase.parity != parity; });
}

// ---- copies
void acquire_map(const void* map) { async.acquired.insert(map); }

void copy_box(void* to, const void* map, const Place& place, Barrier& barrier) {
  const Box box = {uint32_t(static_cast<char*>(to) - here.shared), static_cast<const BoxMap*>(map), place,
                   uint32_t(reinterpret_cast<char*>(&barrier) - here.shared)};
  if (async.acquired.count(map) == 0) report("expected a map that was acquired, got another");
  if (!phase_of(barrier).published) report("expected a barrier that copies know, got one that was not published");
  if (box.to % PATTERN != 0 || box.to + box.bytes() > async.shared_bytes) {
    report("expected a box at a multiple of 1024 bytes of shared memory, got another");
  }
  std::memset(to, POISON, box.bytes());
  for (uint32_t c = box.to; c < box.to + box.bytes(); c += CHUNK) ++async.coming[c / CHUNK];
  async.boxes.push_back(box);
}

bool land_box(uint64_t which) {
  if (async.boxes.empty()) return false;
  land(size_t(which % async.boxes.size()));
  return true;
}

// ---- products
void fence_sums() { async.warps[here.thread.x / WARP].fenced = true; }

const char* issue_product(void* const (&lanes)[32]) {
  const Product& first = product_of(lanes[0]);
  Warp& warp = async.warps[first.thread / WARP];
  WarpSums& sums = warp.sums[first.c];
  if (sums.products++ == 0) {
    if (!warp.fenced) return "expected a fence before products whose sums were touched, got none";
    sums.values.resize(size_t(FRAGMENT * 8 * first.blocks));
    for (int lane = 0; lane < WARP; ++lane) sums.lanes[lane] = product_of(lanes[lane]).c;
    for_sums(sums, first.blocks, [&](float& own, int row, int column) {
      sums.values[size_t(row * 8 * first.blocks + column)] = own;
      std::memset(&own, POISON, sizeof own);
    });
  }
  for (void* lane : lanes) {
    if (!alike(product_of(lane), first)) return "expected one product of all lanes, got several";
  }
  warp.groups.back().push_back(first);
  if (const char* fault = fault_of(first.a, int(first.thread) / WARP % WARPS * FRAGMENT, FRAGMENT)) return fault;
  return fault_of(first.b, 0, 8 * first.blocks);
}

const char* commit_products(void* const (&lanes)[32]) {
  async.warps[static_cast<const Wait*>(lanes[0])->thread / WARP].groups.emplace_back();
  return nullptr;
}

const char* wait_products(void* const (&lanes)[32]) {
  const Wait& wait = *static_cast<const Wait*>(lanes[0]);
  Warp& warp = async.warps[wait.thread / WARP];
  while (int(warp.groups.size()) - 1 > wait.pending) {
    for (const Product& product : warp.groups.front()) {
      WarpSums& sums = warp.sums.at(product.c);
      if (const char* fault = multiply(product, sums)) return fault;
      if (--sums.products > 0) continue;
      for_sums(sums, product.blocks,
               [&](float& own, int row, int column) { own = sums.values[size_t(row * 8 * product.blocks + column)]; });
      warp.sums.erase(product.c);
      warp.fenced = false;
    }
    warp.groups.erase(warp.groups.begin());
  }
  return nullptr;
}

// ---- blocks
void begin_async(size_t shared_bytes, unsigned threads) {
  async = {uint32_t(shared_bytes), {}, {}, std::vector<uint8_t>(shared_bytes / CHUNK + 1), {}, {}};
  async.warps.resize((threads + WARP - 1) / WARP);
  for (Warp& warp : async.warps) warp.groups.resize(1);
}

const char* left_async() {
  if (!async.boxes.empty()) return "expected threads to wait for their copies, got one that did not";
  for (const Warp& warp : async.warps) {
    if (!warp.sums.empty()) return "expected threads to wait for their products, got a warp that did not";
  }
  return nullptr;
}

}  // namespace emulator
}  // namespace dlcore
