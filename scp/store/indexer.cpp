#include "scp/store/indexer.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "scp/dicom/part10.h"
#include "scp/dicom/scan.h"
#include "scp/store/instance_file.h"

namespace cardionode {
namespace fs = std::filesystem;

struct Indexer::Pending {
    Segment* segment = nullptr;
    SegmentRecord record;
};

Result<Indexer> Indexer::open(Spool spool, IndexerOptions options, Queue& queue) {
    auto lock = take_lock(spool.root / "indexer.lock");
    if (!lock) return std::move(lock).error();
    return Indexer(std::move(spool), std::move(options), queue, std::move(lock).value());
}

Result<void> Indexer::find_segments() {
    std::error_code error;
    std::vector<std::string> names;
    for (fs::directory_iterator entry(spool_.ingest(), error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name.ends_with(".seg") && !name.starts_with(".") && !segments_.contains(name)) names.push_back(name);
    }
    if (error) return file_error("listing", spool_.ingest(), error.value());
    for (const std::string& name : names) {
        auto reader = SegmentReader::open(spool_.ingest() / name);
        if (!reader) {
            if (!fs::exists(spool_.ingest() / name, error)) continue;  // given up empty by its writer
            return std::move(reader).error();
        }
        const bool live = !reader->writer_gone();
        if (!live) ++counts_.segments;
        segments_.try_emplace(name, std::move(reader).value(), live);
    }
    return {};
}

/// A record whose data set has not the check of its header. At the end of a leftover segment it was never acknowledged.
/// With a sound record behind it, or while its writer lives, it was, and disk or memory has lost it: that must not pass
/// in silence.
Result<bool> Indexer::torn_or_damaged(Segment& segment, SegmentRecord& record) {
    auto sound = segment.reader.verify(record);
    if (!sound) return std::move(sound).error();
    if (*sound) return false;
    segment.reader.advance(record);
    auto next = segment.reader.peek();
    if (!next) return std::move(next).error();
    if (next->has_value() || segment.trusted) {
        segment.damaged = true;
        log_error("stored_instance_damaged",
                  {{"segment", segment.reader.path().filename().string()}, {"bytes", record.instance.bytes}});
    } else {
        ++counts_.torn_tails;
    }
    return true;
}

Result<void> Indexer::collect(std::vector<Pending>& batch) {
    std::uint64_t bytes = 0;
    std::vector<std::string> finished;
    for (auto& [name, segment] : segments_) {
        const bool gone = segment.reader.writer_gone();  // before the last look, so that no record can come after it
        bool more = true;
        while (more && batch.size() < options_.batch_records && bytes < options_.batch_bytes) {
            auto record = segment.reader.peek();
            if (!record) return std::move(record).error();
            more = record->has_value();
            if (!more) break;
            auto lost = torn_or_damaged(segment, **record);
            if (!lost) return std::move(lost).error();
            if (*lost) continue;
            bytes += static_cast<std::uint64_t>((*record)->instance.bytes);
            segment.reader.advance(**record);
            batch.push_back({&segment, std::move(**record)});
        }
        if (more) return {};  // the batch is full
        const bool waits = std::ranges::any_of(batch, [&](const Pending& p) { return p.segment == &segment; });
        if (gone && !waits) finished.push_back(name);
    }
    for (const std::string& name : finished) {
        if (auto done = finish_segment(segments_.at(name)); !done) return done;
        segments_.erase(name);
    }
    caught_up_ = true;  // when the batch is in the queue as well
    return {};
}

/// All its records are in the queue.
Result<void> Indexer::finish_segment(Segment& segment) {
    const fs::path path = segment.reader.path();
    if (options_.observer.segment_finished) options_.observer.segment_finished(path.filename().string());
    if (!segment.trusted) {
        auto rest = segment.reader.rest();
        if (!rest) return std::move(rest).error();
        const bool lost = *rest == SegmentReader::Rest::LaterRecords;
        if (lost) log_error("stored_instances_damaged", {{"segment", path.filename().string()}});
        segment.damaged = segment.damaged || lost;
        counts_.torn_tails += *rest == SegmentReader::Rest::Torn ? 1 : 0;
    }
    if (segment.damaged) return set_aside(path);
    at("remove_segment");
    if (auto kept = keep_as_spare(spool_, path, options_.spare_bytes); !kept) return kept;
    at("segment_removed");
    return {};
}

Result<void> Indexer::set_aside(const fs::path& file) {
    const fs::path kept = spool_.damaged() / file.filename();
    if (::rename(file.c_str(), kept.c_str()) != 0) return file_error("setting aside", file, errno);
    ++counts_.damaged;
    log_error("file_set_aside", {{"file", kept.string()}});
    return sync_folder(spool_.damaged());
}

Result<void> Indexer::write_files(std::vector<Pending>& batch) {
    if (!spool_in_place(spool_)) return retry_error("the spool is not in its place: is its disk mounted?");
    InstanceFileGroup group(spool_);
    for (Pending& pending : batch) {
        pending.record.instance.file = instance_file_name(pending.record.instance);
        at("write_file");
        auto added = group.add(pending.record.instance, pending.segment->reader.fd(), pending.record.data_offset);
        if (!added) return added;
    }
    at("sync_files");
    if (auto synced = group.sync_files(); !synced) return synced;
    at("rename_files");
    if (auto named = group.rename_files([this] { at("rename_file"); }); !named) return named;
    at("sync_folders");
    return group.sync_folders();
}

Result<void> Indexer::note(const Pending& pending, const Ingested& ingested) {
    const ReceivedInstance& instance = pending.record.instance;
    if (ingested.outcome == IngestOutcome::Conflict)
        log_warning("instance_conflict", {{"study", ingested.study_key}, {"peer", instance.calling_ae_title}});
    else if (ingested.outcome == IngestOutcome::OtherPatient)
        log_warning("instance_of_other_patient", {{"study", ingested.study_key}, {"peer", instance.calling_ae_title}});
    else
        log_debug(ingested.outcome == IngestOutcome::Stored ? "instance_stored" : "instance_duplicate",
                  {{"study", ingested.study_key}, {"peer", instance.calling_ae_title}, {"bytes", instance.bytes}});
    pending.segment->last_study = ingested.study_key;
    if (options_.observer.entered)
        options_.observer.entered(pending.segment->reader.path().filename().string(), instance, ingested);
    if (ingested.outcome != IngestOutcome::Duplicate || ingested.file == instance.file) return {};
    at("remove_duplicate");
    const fs::path path = spool_.root / instance.file;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return file_error("removing", path, errno);
    return {};
}

Result<void> Indexer::enter(std::vector<Pending>& batch) {
    std::vector<ReceivedInstance> instances;
    instances.reserve(batch.size());
    for (const Pending& pending : batch) instances.push_back(pending.record.instance);
    at("add_instances");
    auto ingested = queue_->add_instances(instances, options_.rules);
    at("instances_added");
    if (ingested) {
        counts_.records += static_cast<int>(batch.size());
        for (std::size_t i = 0; i < batch.size(); ++i)
            if (auto noted = note(batch[i], (*ingested)[i]); !noted) return noted;
        return {};
    }
    if (ingested.error().kind == ErrorKind::Retry || ingested.error().kind == ErrorKind::Config)
        return std::move(ingested).error();
    // One instance that the queue cannot take must not hold up the others: each on its own, the bad one is kept.
    for (Pending& pending : batch) {
        auto one = queue_->add_instances(std::span(&pending.record.instance, 1), options_.rules);
        if (one) {
            if (auto noted = note(pending, one->front()); !noted) return noted;
            continue;
        }
        if (one.error().kind == ErrorKind::Retry || one.error().kind == ErrorKind::Config)
            return std::move(one).error();
        log_error("instance_not_indexed",
                  {{"segment", pending.segment->reader.path().filename().string()}, {"reason", one.error().message}});
        pending.segment->damaged = true;
    }
    return {};
}

Result<std::size_t> Indexer::step() {
    caught_up_ = false;
    const Moment begun = options_.clock->now();
    if (auto found = find_segments(); !found) return std::move(found).error();
    std::vector<Pending> batch;
    const auto start_again = [this](Error error) {
        if (options_.observer.started_again) options_.observer.started_again();
        caught_up_ = false;
        segments_.clear();  // every segment is read from its beginning again; what is in the queue already stays so
        return error;
    };
    if (auto collected = collect(batch); !collected) return start_again(std::move(collected).error());
    if (caught_up_ && batch.empty()) whole_until_ = begun;
    if (batch.empty()) return std::size_t{0};
    if (auto written = write_files(batch); !written) return start_again(std::move(written).error());
    if (auto entered = enter(batch); !entered) return start_again(std::move(entered).error());
    if (caught_up_) whole_until_ = begun;
    return batch.size();
}

Result<std::vector<std::string>> Indexer::close_quiet() {
    if (auto found = find_segments(); !found) return std::move(found).error();
    std::vector<std::string> arriving;
    bool waits = false;
    for (auto& [name, segment] : segments_) {
        auto waiting = segment.reader.peek();
        if (!waiting) return std::move(waiting).error();
        waits = waits || waiting->has_value();
        if (segment.last_study.empty() || segment.reader.writer_gone()) continue;
        struct stat info {};
        if (::fstat(segment.reader.fd(), &info) != 0)
            return file_error("asking for the time of", segment.reader.path(), errno);
        const std::int64_t written = info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec;
        if (std::exchange(segment.written_ns, written) != written) arriving.push_back(segment.last_study);
    }
    if (!arriving.empty()) {
        if (auto told = queue_->still_arriving(arriving); !told) return std::move(told).error();
    }
    if (waits && !whole_until_) return std::vector<std::string>();
    return queue_->close_quiet(options_.rules, waits ? whole_until_ : std::nullopt);
}

}  // namespace cardionode
