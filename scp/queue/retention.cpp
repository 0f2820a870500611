// Deleting what is finished.
#include "scp/queue/session.h"

namespace cardionode {
namespace {

std::string_view word(FileRoot root) { return root == FileRoot::Spool ? "spool" : "work"; }

}  // namespace

Result<std::vector<std::string>> Queue::finished_studies(Milliseconds at_least, int most) {
    State& state = *state_;
    return state.look("listing finished studies", [&] {
        std::vector<std::string> keys;
        Query row = state.query(
            "SELECT s.key FROM studies s WHERE s.state = 'done' AND s.state_since <= ? AND NOT EXISTS (SELECT 1 FROM "
            "outbox b WHERE b.study_id = s.id AND (b.state IN ('waiting', 'sending') OR b.commitment IN ('wanted', "
            "'asked'))) ORDER BY s.state_since, s.id LIMIT ?",
            state.now() - at_least.count(), most);
        while (row.next()) keys.push_back(row.text(0));
        return keys;
    });
}

Result<std::optional<RemovedStudy>> Queue::remove_study(const std::string& study_key) {
    State& state = *state_;
    return state.change("deleting study " + study_key, [&]() -> std::optional<RemovedStudy> {
        RemovedStudy removed;
        std::int64_t study = 0;
        {
            Query row = state.query(
                "SELECT s.id, s.instances + s.conflicts, s.bytes, s.study_instance_uid FROM studies s WHERE s.key = ? "
                "AND s.state = 'done' AND NOT EXISTS (SELECT 1 FROM outbox b WHERE b.study_id = s.id AND (b.state IN "
                "('waiting', 'sending') OR b.commitment IN ('wanted', 'asked')))",
                study_key);
            if (!row.next()) return std::nullopt;
            study = row.integer(0);
            removed = {row.small(1), row.integer(2), row.text(3)};
        }
        state.run("INSERT OR IGNORE INTO removals SELECT 'spool', file FROM instances WHERE study_id = ?", study);
        state.run("INSERT OR IGNORE INTO removals SELECT 'work', file FROM outputs WHERE study_id = ?", study);
        state.run("DELETE FROM studies WHERE id = ?", study);  // and with it every row that belongs to it
        return removed;
    });
}

Result<std::vector<std::string>> Queue::files_to_remove(FileRoot root, int most) {
    State& state = *state_;
    return state.look("listing files to remove", [&] {
        std::vector<std::string> files;
        Query row = state.query("SELECT file FROM removals WHERE root = ? ORDER BY file LIMIT ?", word(root), most);
        while (row.next()) files.push_back(row.text(0));
        return files;
    });
}

Result<void> Queue::files_removed(FileRoot root, std::span<const std::string> files) {
    State& state = *state_;
    return state.change("noting removed files", [&] {
        for (const std::string& file : files)
            state.run("DELETE FROM removals WHERE root = ? AND file = ?", word(root), file);
    });
}

}  // namespace cardionode
