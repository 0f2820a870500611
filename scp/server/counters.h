// What the receiver counts, in memory that all its processes share.
//
// Everything is a counter that only grows, so a process that is killed in the middle of something leaves no wrong
// number behind: what it has counted has happened. How many associations are open is not counted but seen in the slots
// (shared_state.h), which the supervisor clears when a process has ended in whatever way.
// Thread safety: atomics, shared between processes (each lock-free).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "conf/base/time.h"

namespace cardionode {

/// Why an association was rejected: the words of Refusal::reason. A new one counts as "other" until it stands here.
inline constexpr std::array<std::string_view, 10> kRejectReasons = {"protocol_version",
                                                                    "application_context",
                                                                    "called_ae_title",
                                                                    "calling_ae_title",
                                                                    "spool_gone",
                                                                    "low_space",
                                                                    "max_associations",
                                                                    "max_associations_per_address",
                                                                    "tls",
                                                                    "other"};
/// Status of a refused request; the last stands for any other.
inline constexpr std::array<std::uint16_t, 6> kCountedStatuses = {0x0122, 0x0211, 0xa700, 0xa900, 0xc000, 0x0110};

struct Counters {
    using Count = std::atomic<std::uint64_t>;

    Count connections{0};
    Count connections_refused{0};
    Count connections_without_association{0};
    Count associations_accepted{0};
    std::array<Count, kRejectReasons.size()> associations_rejected{};
    std::array<Count, kCountedStatuses.size()> requests_refused{};
    Count association_processes_failed{0};
    Count instances_durable{0};       ///< synced to the journal; the answer comes after that
    Count instances_acknowledged{0};  ///< whose answer left
    Count bytes_acknowledged{0};
    Count instances_indexed{0};
    Count instances_duplicate{0};
    Count instances_conflict{0};
    Count instances_other_patient{0};
    Count commitments_requested{0};  ///< by scanners
    Count commitments_refused{0};    ///< or not stored
    Count commitments_reported{0};   ///< and taken by the scanner
    Count commitments_unreported{0};
    Count instances_committed{0};  ///< told to a scanner: we keep it
    Count instances_not_committed{0};
    Count reports_taken{0};  ///< about our outputs, from PACS
    Count reports_unknown{0};
    Count outputs_committed{0};
    Count outputs_not_committed{0};
    Count studies_ready{0};
    Count studies_deleted{0};
    Count indexer_starts{0};
    std::atomic<std::int64_t> last_instance_ms{0};  ///< UTC, since 1970; 0: none since the start
    std::atomic<std::int64_t> last_study_ready_ms{0};

    void rejected(std::string_view reason) {
        std::size_t i = 0;
        while (i + 1 < kRejectReasons.size() && kRejectReasons[i] != reason) ++i;
        ++associations_rejected[i];
    }
    void refused(std::uint16_t status) {
        std::size_t i = 0;
        while (i + 1 < kCountedStatuses.size() && kCountedStatuses[i] != status) ++i;
        ++requests_refused[i];
    }
    void studies_became_ready(std::size_t number) {
        studies_ready += number;
        last_study_ready_ms = system_clock().now().time_since_epoch().count();
    }
    void acknowledged(std::uint64_t bytes) {
        ++instances_acknowledged;
        bytes_acknowledged += bytes;
    }
    void durable() {
        ++instances_durable;
        last_instance_ms = system_clock().now().time_since_epoch().count();
    }
};
static_assert(Counters::Count::is_always_lock_free);

}  // namespace cardionode
