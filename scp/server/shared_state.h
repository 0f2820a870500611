// What the supervisor and the processes of its connections tell each other: a fixed table in shared memory.
//
// A connection's process writes its own slot and reads the others' states; the supervisor reads all and clears a slot
// when its process has ended. Nothing in it is trusted further than a number in a range: a process that went wild can
// at most have itself ended.
// Thread safety: atomics, shared between processes (each lock-free).
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "scp/server/counters.h"

namespace cardionode {

enum class SlotState : std::uint32_t {
    Free,
    Connected,   ///< waits for an A-ASSOCIATE-RQ
    Associated,  ///< counts as an association
    Leaving,     ///< said its last word, waits for the peer to close
};

struct Slot {
    std::atomic<SlotState> state{SlotState::Free};
    std::atomic<std::int64_t> progress_ms{0};  ///< steady clock; when bytes last moved
    std::atomic<std::uint64_t> address{0};     ///< of the peer, as a hash

    void progressed() {
        progress_ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
                .count();
    }
};
static_assert(std::atomic<SlotState>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

inline constexpr std::size_t kMaxSilentConnections = 256;  ///< connected, but without an association yet
inline constexpr int kMaxSilentFromAddress = kMaxSilentConnections / 2;
inline constexpr std::size_t kMaxSlots = 512 + kMaxSilentConnections;

/// What came in since the start, so that the indexer can keep out of the way.
struct Traffic {
    std::atomic<std::uint64_t> instances{0};
    std::atomic<std::uint64_t> bytes{0};
    std::atomic<std::int64_t> last_ms{0};    ///< steady clock
    std::atomic<bool> indexer_sleeps{true};  ///< it waits for the first instance: wake it

    void stored(std::uint64_t size) {
        bytes += size;
        last_ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
                .count();
        ++instances;
    }
};

/// How far the indexer is: what became durable before a pass began is in the queue once that pass is whole.
struct IndexPasses {
    std::atomic<std::uint64_t> begun{0};
    std::atomic<std::uint64_t> whole{0};  ///< number of the last pass that left nothing waiting
    /// The pass to wait for when something is durable now.
    std::uint64_t next() const { return begun.load() + 1; }
    bool reached(std::uint64_t pass) const { return whole.load() >= pass; }
};

struct SharedState {
    IndexPasses passes;
    Traffic traffic;
    Counters counters;
    std::atomic<std::int64_t> supervisor_seen_ms{0};  ///< steady clock
    std::atomic<bool> indexer_runs{false};
    std::atomic<bool> draining{false};
    std::atomic<bool> low_space{false};   ///< free space under the watermark: refuse new associations for the moment
    std::atomic<bool> spool_gone{false};  ///< the spool's disk is not mounted: refuse everything for the moment
    Slot slots[kMaxSlots];

    int associations() const {
        int n = 0;
        for (const Slot& slot : slots) n += slot.state.load() == SlotState::Associated ? 1 : 0;
        return n;
    }
    int from_address(std::uint64_t address, SlotState state) const {
        int n = 0;
        for (const Slot& slot : slots) n += slot.state.load() == state && slot.address.load() == address ? 1 : 0;
        return n;
    }
};

}  // namespace cardionode
