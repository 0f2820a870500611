// Deleting finished studies, by age and by space.
#include <cerrno>

#include <fmt/format.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "scp/store/indexer.h"

namespace cardionode {

/// Files of studies that the queue has forgotten. Repeated after a crash until none is left.
Result<void> Indexer::remove_files() {
    while (true) {
        auto files = queue_->files_to_remove(FileRoot::Spool);
        if (!files) return std::move(files).error();
        if (files->empty()) return {};
        for (const std::string& file : *files) {
            at("remove_file");
            const std::filesystem::path path = spool_.root / file;
            if (::unlink(path.c_str()) != 0 && errno != ENOENT) return file_error("removing", path, errno);
        }
        at("files_removed");
        if (auto noted = queue_->files_removed(FileRoot::Spool, *files); !noted) return noted;
    }
}

Result<bool> Indexer::remove_study(const std::string& key, std::string_view why) {
    at("remove_study");
    auto removed = queue_->remove_study(key);
    if (!removed) return std::move(removed).error();
    if (!*removed) return false;
    log_info("study_deleted",
             {{"study", key}, {"instances", (*removed)->instances}, {"bytes", (*removed)->bytes}, {"why", why}});
    if (options_.observer.study_deleted) options_.observer.study_deleted(key, **removed, why);
    if (auto gone = remove_files(); !gone) return std::move(gone).error();
    return true;
}

Result<int> Indexer::remove_finished(const Retention& retention) {
    if (auto rest = remove_files(); !rest) return std::move(rest).error();
    int studies = 0;
    if (retention.keep.count() > 0) {
        auto old = queue_->finished_studies(retention.keep);
        if (!old) return std::move(old).error();
        for (const std::string& key : *old) {
            auto removed = remove_study(key, "age");
            if (!removed) return std::move(removed).error();
            studies += *removed ? 1 : 0;
        }
        auto dropped = drop_spares(spool_, std::chrono::duration_cast<std::chrono::seconds>(retention.keep));
        if (!dropped) return std::move(dropped).error();
    }
    while (retention.wanted_free > 0) {
        auto free = retention.free_bytes();
        if (!free) return std::move(free).error();
        if (*free >= retention.wanted_free) break;
        auto oldest = queue_->finished_studies(retention.keep_at_least, 1);
        if (!oldest) return std::move(oldest).error();
        if (oldest->empty()) break;
        auto removed = remove_study(oldest->front(), "space");
        if (!removed) return std::move(removed).error();
        studies += *removed ? 1 : 0;
    }
    return studies;
}

}  // namespace cardionode
