// From segments to DICOM files that the queue knows.
//
// One indexer works on a spool at a time (it holds indexer.lock). Of each record it makes a DICOM file of zeroed
// preamble, meta header and the data set, unchanged, under a name derived from its identity and content; syncs files
// and folders in groups; tells the queue in one transaction; and only then removes the segment. Every step may be cut
// off at any point and is simply done again: the same record makes the same file name, and the queue answers a file it
// knows as it did the first time.
//
// Thread safety: one object belongs to one thread.
// Errors: Retry (disk full, queue busy: call again later, nothing is lost), Config (spool or queue unusable).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "scp/queue/queue.h"
#include "scp/store/segment.h"
#include "scp/store/spool.h"

namespace cardionode {

/// Who wants to know what happens; each may be empty. Called after it is durable.
struct IndexingObserver {
    /// @param segment  file name; one association writes it (segment.h)
    std::function<void(const std::string& segment, const ReceivedInstance&, const Ingested&)> entered;
    std::function<void(const std::string& segment)> segment_finished;  ///< all of it is in the queue
    std::function<void()> started_again;  ///< every segment that is not finished is entered from its beginning
    std::function<void(const std::string& study_key, const RemovedStudy&, std::string_view why)> study_deleted;
};

struct IndexerOptions {
    ArrivalRules rules;
    const Clock* clock = &system_clock();  ///< that of the queue
    std::size_t batch_records = 64;
    std::uint64_t batch_bytes = 128ULL << 20;
    std::uint64_t spare_bytes = 0;  ///< of files kept for the next segments (spares.h)
    IndexingObserver observer;
    /// Called before and after each step that changes something outside; tests end the process there.
    std::function<void(std::string_view step)> on_step;
};

/// What may be deleted, and when.
struct Retention {
    Milliseconds keep{0};  ///< a finished study is deleted when it is finished for this long; 0: never for that
    std::uint64_t wanted_free = 0;  ///< below this, the longest finished go earlier; 0: never for that
    Milliseconds keep_at_least{0};  ///< whatever the space is
    std::function<Result<std::uint64_t>()> free_bytes;  ///< of the spool's file system
};

/// What was found at the start of an indexer.
struct RecoveryCounts {
    int segments = 0;         ///< left over from a former run
    int records = 0;          ///< indexed from them
    int torn_tails = 0;       ///< segments with a part of a record at their end, which was never acknowledged
    int temporary_files = 0;  ///< removed
    int files_adopted = 0;    ///< in instances/, unknown to the queue, added to it
    int files_removed = 0;    ///< in instances/, unknown to the queue, whose content the queue has in another file
    int damaged = 0;          ///< files or segments moved to damaged/
};

class Indexer {
public:
    /// @param queue  must outlive the indexer. Retry: another indexer has the lock.
    static Result<Indexer> open(Spool spool, IndexerOptions options, Queue& queue);

    /// Once, before the first step(): removes temporary files, indexes leftover segments, adopts files that the queue
    /// does not know.
    Result<RecoveryCounts> recover();

    /// Indexes at most one batch. @return how many records; 0: none was there
    Result<std::size_t> step();
    /// The last step() left nothing waiting: what was durable before it began is in the queue.
    bool caught_up() const { return caught_up_; }
    /// About once a second: closes what was quiet for long enough; while instances wait to be indexed, what was so when
    /// the last step() that left none waiting began. A study whose next instance is coming in over an open association,
    /// however slowly, is not quiet.
    /// @return keys of studies that became ready
    Result<std::vector<std::string>> close_quiet();

    /// Deletes studies that are done, and spares that nobody used for as long (they hold the last data sets they were
    /// used for). Each deletion is logged, without identity. @return how many studies
    Result<int> remove_finished(const Retention& retention);

private:
    struct Segment {
        explicit Segment(SegmentReader r, bool live) : reader(std::move(r)), trusted(live) {}
        SegmentReader reader;
        bool trusted;                 ///< seen while its writer lived: the page cache holds what was written
        bool damaged = false;         ///< holds a record that must be kept for a person
        std::string last_study;       ///< of the newest record that is in the queue
        std::int64_t written_ns = 0;  ///< time stamp of the file when close_quiet() looked last
    };
    struct Pending;

    Indexer(Spool spool, IndexerOptions options, Queue& queue, FileDescriptor lock)
        : spool_(std::move(spool)), options_(std::move(options)), queue_(&queue), lock_(std::move(lock)) {}

    void at(std::string_view step) const {
        if (options_.on_step) options_.on_step(step);
    }
    Result<void> find_segments();
    Result<void> collect(std::vector<Pending>& batch);
    Result<void> write_files(std::vector<Pending>& batch);
    Result<void> enter(std::vector<Pending>& batch);
    Result<void> note(const Pending& pending, const Ingested& ingested);
    Result<void> finish_segment(Segment& segment);
    Result<bool> torn_or_damaged(Segment& segment, SegmentRecord& record);
    Result<void> remove_temporary_files();
    Result<void> adopt_unknown_files();
    Result<void> adopt(const std::filesystem::path& file, const std::string& name);
    Result<void> set_aside(const std::filesystem::path& file);
    Result<bool> remove_study(const std::string& key, std::string_view why);
    Result<void> remove_files();

    Spool spool_;
    IndexerOptions options_;
    Queue* queue_;
    FileDescriptor lock_;
    std::map<std::string, Segment> segments_;  ///< by file name, so in the order of their making
    RecoveryCounts counts_;
    bool caught_up_ = false;
    std::optional<Moment> whole_until_;  ///< what was durable then is in the queue
};

}  // namespace cardionode
