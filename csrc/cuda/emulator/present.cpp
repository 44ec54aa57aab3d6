// SPDX-License-Identifier: Apache-2.0
#include "../arch/sm90.cuh"
#include "../backend.h"
#include "../cuda.h"
#include "../device.h"
#include "../gemm/swizzle.h"
#include "../gemm/tiles.h"
#include "simt.h"

namespace dlcore {

using namespace cuda::DLCORE_ISA;

CudaInfo emulator_info() { return {true, device_absence(), device_names(), {"host"}}; }

DeviceDoor* emulated_backend(int device) { return backend_on(device); }

void emulate_capability(int capability) { emulator::capability = capability; }

// (m, n, k, terms, whose kernels?)
static const Cores& cores_of(const std::vector<int64_t>& p) {
  return p.size() > 4 && Gemm(p[4]) == Gemm::wgmma ? WGMMA : MMA;
}

static TermsCut cut_of(const std::vector<int64_t>& p) {
  return terms_cut(cores_of(p), p.at(0), p.at(1), p.at(2), p.at(3), PARTS_OF_TERMS[p.at(3)]);
}

std::vector<int64_t> emulate_cut(const std::vector<int64_t>& product) {
  const TermsCut c = cut_of(product);
  const TileSize& tile = cores_of(product).tiles[c.tile];
  return {tile.rows, tile.cols, c.down, c.across, c.splits, c.split_depth};
}

std::vector<int64_t> emulate_place(const std::vector<int64_t>& product, int64_t block) {
  const TermsCut c = cut_of(product);
  const TilePlace place = tile_place(c, block);
  const TileSize& tile = cores_of(product).tiles[c.tile];
  return {place.down * tile.rows, place.across * tile.cols, place.split * c.split_depth};
}

int emulate_swizzle(int row, int chunk, int across) { return swizzle(row, chunk, across); }

uint64_t emulate_descriptor(uint32_t address, uint32_t leading) { return describe_matrix(address, leading); }

}  // namespace dlcore
