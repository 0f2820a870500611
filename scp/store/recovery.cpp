// The part of the indexer that runs once, at its start.
#include <cerrno>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "scp/store/indexer.h"
#include "scp/store/instance_file.h"

namespace cardionode {
namespace fs = std::filesystem;

Result<RecoveryCounts> Indexer::recover() {
    counts_ = {};
    if (auto removed = remove_temporary_files(); !removed) return std::move(removed).error();
    if (auto removed = remove_files(); !removed) return std::move(removed).error();  // or they would be adopted
    bool more = true;
    while (more) {
        auto stepped = step();
        if (!stepped) return std::move(stepped).error();
        more = *stepped > 0;
    }
    if (auto adopted = adopt_unknown_files(); !adopted) return std::move(adopted).error();
    return counts_;
}

Result<void> Indexer::remove_temporary_files() {
    std::error_code error;
    std::vector<fs::path> leftovers;
    for (fs::directory_iterator entry(spool_.ingest(), error), end; !error && entry != end; entry.increment(error)) {
        if (!entry->path().filename().string().starts_with(".new-")) continue;
        // A writer that lives makes its segment visible within a moment; only one without a lock was left behind.
        const FileDescriptor file(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
        if (file.valid() && ::flock(file.get(), LOCK_SH | LOCK_NB) == 0) leftovers.push_back(entry->path());
    }
    if (error) return file_error("listing", spool_.ingest(), error.value());
    for (fs::directory_iterator entry(spool_.spare(), error), end; !error && entry != end; entry.increment(error))
        if (entry->path().extension() == ".new") leftovers.push_back(entry->path());
    if (error) return file_error("listing", spool_.spare(), error.value());
    for (fs::recursive_directory_iterator entry(spool_.instances(), error), end; !error && entry != end;
         entry.increment(error)) {
        if (entry->path().filename().string().starts_with(kTemporaryPrefix)) leftovers.push_back(entry->path());
    }
    if (error) return file_error("listing", spool_.instances(), error.value());
    for (const fs::path& path : leftovers) {
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) return file_error("removing", path, errno);
        ++counts_.temporary_files;
    }
    return {};
}

Result<void> Indexer::adopt_unknown_files() {
    auto known = queue_->known_files();
    if (!known) return std::move(known).error();
    const std::set<std::string> names(known->begin(), known->end());
    std::error_code error;
    std::vector<fs::path> unknown;
    for (fs::recursive_directory_iterator entry(spool_.instances(), error), end; !error && entry != end;
         entry.increment(error)) {
        const fs::path& path = entry->path();
        if (path.extension() == ".dcm" && !names.contains(path.lexically_relative(spool_.root).string()))
            unknown.push_back(path);
    }
    if (error) return file_error("listing", spool_.instances(), error.value());
    for (const fs::path& path : unknown) {
        if (auto adopted = adopt(path, path.lexically_relative(spool_.root).string()); !adopted) return adopted;
    }
    return {};
}

Result<void> Indexer::adopt(const fs::path& path, const std::string& name) {
    auto instance = read_instance_file(path, spool_.patient_key);
    if (!instance) {
        if (instance.error().kind != ErrorKind::Reject) return std::move(instance).error();
        log_error("unknown_file_unreadable", {{"file", name}, {"reason", instance.error().message}});
        return set_aside(path);
    }
    instance->file = name;
    auto ingested = queue_->add_instances(std::span(&*instance, 1), options_.rules);
    if (!ingested) {
        if (ingested.error().kind == ErrorKind::Retry || ingested.error().kind == ErrorKind::Config)
            return std::move(ingested).error();
        return set_aside(path);
    }
    if (ingested->front().outcome == IngestOutcome::Duplicate && ingested->front().file != name) {
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) return file_error("removing", path, errno);
        ++counts_.files_removed;
        return {};
    }
    ++counts_.files_adopted;
    log_warning("unknown_file_adopted", {{"study", ingested->front().study_key}, {"file", name}});
    return {};
}

}  // namespace cardionode
