// A disk that loses everything that was not synced: a power cut, in this process.
//
// The functions below stand in the test program under the names of the C library's, so that the store and SQLite call
// them. Each change is done at once and noted with what was there before; fsync and fdatasync forget the notes of what
// they make durable. power_cut() undoes the rest in reverse order, so that the files look as a disk may leave them that
// wrote nothing without being told to. Names: a rename, a new or a removed name is durable once a folder it touches was
// synced (a journaling file system keeps a rename whole).
// Thread safety: one thread. Use it in a forked process that ends afterwards.
#pragma once

#include <filesystem>

namespace cardionode::test {

/// From now on changes under `root` are noted. After `changes` more of them the power is cut and the process ends.
void lose_power_after(const std::filesystem::path& root, const std::filesystem::path& stash, long changes);
inline constexpr int kPowerIsOut = 99;  ///< exit status

}  // namespace cardionode::test
