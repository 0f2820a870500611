// The queue: the only place where receiver, pipeline and operator meet. SQLite (WAL) inside; one file, several
// processes.
//
// What a study goes through is explained in schema.sql. In short:
//   receiving -> ready -> processing -> sending -> done
//                  ^         |             |
//                  |         v             v
//                  +--- (retry) ------- set_aside (dead letter: shown, requeued by `retry`)
// A late image puts a study back to `receiving` with revision + 1. A claim is a lease: a worker that stops its
// heartbeat loses the job, which then runs again. Every method is one short transaction (BEGIN IMMEDIATE); none is
// held across receiving, inference or sending. When a method returns, what it did is on disk (synchronous=FULL).
//
// A lease is lost when another worker took it over, or when a late image made the work pointless. A worker whose lease
// ran out, but whose work nobody else took, still holds it.
//
// Thread safety: one Queue object belongs to one thread; open one more for another thread or process. Never carry one
// across fork().
// Errors: Retry (busy, disk full), Config (cannot open, schema newer than this program), Reject (an unknown study key,
// or a wish that does not fit the study's state), Bug (SQL, broken assumptions of the caller).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/sqlite.h"
#include "conf/base/time.h"
#include "scp/queue/arrival.h"
#include "scp/queue/commitment.h"

namespace cardionode {

enum class StudyState { Receiving, Ready, Processing, Sending, Done, SetAside };
std::string_view to_string(StudyState state);

struct InstanceRow {
    std::string series_instance_uid;
    std::string sop_instance_uid;
    std::string sop_class_uid;
    std::string transfer_syntax_uid;
    std::string modality;
    std::string sha256;
    std::string file;  ///< relative to the spool folder
    std::int64_t bytes = 0;
    bool conflict = false;       ///< kept beside, not used: see schema.sql
    bool other_patient = false;  ///< its Patient ID is not the study's
};

/// One object that the pipeline wrote and the PACS must get.
struct OutputFile {
    std::string kind;  ///< "SEG", "SR", "KEY_IMAGE"
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string file;  ///< relative to the work folder
};

/// A study that a worker holds until its lease runs out; renew_study() in good time.
struct ClaimedStudy {
    std::int64_t job_id = 0;
    std::string study_key;
    int revision = 1;
    int attempt = 1;  ///< 1 for the first try
    std::string study_instance_uid;
    std::vector<InstanceRow> instances;  ///< without conflicts; at least one
    int conflicts = 0;                   ///< instances that are left out; of these,
    int other_patient = 0;               ///< those with another Patient ID
    std::vector<OutputFile> replaces;    ///< of the newest earlier revision: what a destination got from it
    std::string lease_token;             ///< proves the claim in later calls
};

struct ClaimedOutput {
    std::int64_t outbox_id = 0;
    std::string study_key;
    int revision = 1;
    int attempt = 1;
    std::string destination;  ///< name in the settings
    OutputFile output;
    std::string lease_token;
};

/// Pauses between tries: first * 2^(n-1), at most longest, with +-20 % jitter.
struct RetryPolicy {
    Milliseconds first{30'000};
    Milliseconds longest{3'600'000};
    int max_attempts = 5;                                      ///< 0: no limit
    std::optional<Milliseconds> give_up_after = std::nullopt;  ///< since the row was made
};

struct StudyRow {
    std::string study_key;
    std::string study_instance_uid;
    StudyState state = StudyState::Receiving;
    int revision = 1;
    int series = 0;
    int instances = 0;
    int conflicts = 0;
    int late = 0;           ///< kept, and in no result yet
    int other_patient = 0;  ///< with another Patient ID than the study's first instance, used or not
    std::int64_t bytes = 0;
    Moment first_received{};
    Moment last_received{};
    std::string calling_ae_title;
    int attempts = 0;
    std::optional<Moment> next_try;
    std::string last_error;  ///< for people; empty: none
    std::string outcome;     ///< one line for people: "7 of 7 landmarks, 5 outputs" or the reason of a refusal
    int outputs_total = 0;
    int outputs_sent = 0;         ///< and accepted; of these:
    int outputs_uncommitted = 0;  ///< the destination has not said yet that it keeps them
    int outputs_set_aside = 0;
};

struct EventRow {
    Moment at{};
    std::string study_key;
    std::string event;
    std::string detail;
};

/// One output on its way to one destination.
struct OutputRow {
    int revision = 1;
    OutputFile output;
    std::string destination;  ///< empty: no destination was set when the study was finished
    std::string state;        ///< waiting | sending | sent | set_aside | withdrawn | kept (no destination)
    int attempts = 0;
    std::optional<Moment> next_try;
    std::optional<Moment> sent_at;
    std::string last_error;  ///< for people; empty: none
    std::string note;        ///< what the destination said beside success
    std::string commitment;  ///< of one that is sent: none | wanted | asked | committed | not_offered
};

struct DestinationStatus {
    std::string destination;
    int waiting = 0;  ///< or being sent
    int sent = 0;
    int set_aside = 0;
    std::optional<Moment> next_try = std::nullopt;
    std::optional<Moment> last_sent = std::nullopt;
    std::string last_error = {};  ///< of an output that waits or was set aside
    int uncommitted = 0;          ///< of the sent ones: to be committed yet
};

struct QueueStatus {
    std::vector<std::pair<StudyState, int>> studies_by_state;
    std::int64_t instances = 0;
    std::int64_t bytes = 0;
    std::int64_t conflicts = 0;
    int outputs_waiting = 0;
    int outputs_sent = 0;
    int outputs_set_aside = 0;
    std::vector<DestinationStatus> destinations;
    std::optional<Moment> oldest_unfinished;  ///< first instance of the oldest study that is neither done nor set aside
    int schema_version = 0;
};

/// Depth and age for monitoring.
struct QueueDepths {
    struct Studies {
        StudyState state = StudyState::Receiving;
        int number = 0;
        std::optional<Moment> oldest = std::nullopt;  ///< since when the longest has been in this state
    };
    struct Outputs {
        std::string destination;
        std::string state;  ///< of the outbox, see schema.sql
        int number = 0;
        int tried = 0;        ///< of these, tried at least once
        Moment oldest = {};   ///< made or requeued
        int uncommitted = 0;  ///< of these, sent and not committed yet
    };
    std::vector<Studies> studies;  ///< every state
    std::vector<Outputs> outputs;
    int commitments_owed = 0;  ///< requests of scanners that are not reported yet
    std::optional<Moment> oldest_owed = std::nullopt;
};

/// Part of a claim's outcome that stays with the study for the operator.
struct JobOutcome {
    std::string summary;      ///< one line for people
    std::string result_json;  ///< landmarks and measurements, for `cardionode show`; no patient data
};

/// Which folder of the settings a file name is relative to.
enum class FileRoot { Spool, Work };

struct RemovedStudy {
    int instances = 0;  ///< conflicts too
    std::int64_t bytes = 0;
    std::string study_instance_uid = {};
};

struct QueueOptions {
    enum class Mode {
        MakeOrMigrate,  ///< services: makes the file, brings an older schema up to date
        MustExist,      ///< operator: reads and writes, but neither makes nor migrates. Config: absent, or older schema
        ReadOnly,       ///< the same, and never writes
    };
    Mode mode = Mode::MakeOrMigrate;
    std::uint64_t jitter_seed = 0;  ///< of the pauses between tries; 0: from the system
};

class Queue {
public:
    /// Opens the file, makes or migrates the schema. @param clock must outlive the queue.
    static Result<Queue> open(const std::filesystem::path& file, const Clock& clock = system_clock(),
                              const QueueOptions& options = {});
    Queue(Queue&&) noexcept;
    Queue& operator=(Queue&&) noexcept;
    ~Queue();

    // --- receiver
    /// All in one durable transaction, in order; idempotent: see IngestOutcome.
    /// Bug: a file name that the queue holds for another instance; nothing is stored then.
    Result<std::vector<Ingested>> add_instances(std::span<const ReceivedInstance> instances,
                                                const ArrivalRules& rules = {});
    /// An association is still open that brings instances of these studies: their quiet time starts anew, so that a
    /// slow transfer is not split. Has no effect on a study that is not receiving.
    Result<void> still_arriving(std::span<const std::string> study_keys);
    /// Closes series that were quiet for long enough, then makes studies ready whose series are all closed and that
    /// were quiet themselves, or that began too long ago. A study without any instance that can be used, or with one of
    /// another patient where the rules say so, is set aside instead.
    /// @param until  quiet until then; none: now. What came later may not be in the queue yet.
    /// @return keys of studies that became ready
    Result<std::vector<std::string>> close_quiet(const ArrivalRules& rules, std::optional<Moment> until = {});
    Result<std::vector<std::string>> close_quiet(Milliseconds series_quiet, Milliseconds study_quiet) {
        return close_quiet({.series_quiet = series_quiet, .study_quiet = study_quiet});
    }
    /// Makes a receiving study ready now. Reject: it is not receiving.
    Result<void> force_complete(const std::string& study_key);
    /// The file that holds an instance, if it is known (index look-up). Of several with one UID: the first, in use.
    Result<std::optional<InstanceRow>> find_instance(const std::string& sop_instance_uid);
    /// Every file name the queue knows, conflicts too, for recovery at start.
    Result<std::vector<std::string>> known_files();

    // --- retention
    /// Studies that are done for at least this long, the longest done first: every output reached every destination,
    /// or there was none to reach. A study that is set aside waits for a person and is never among them.
    Result<std::vector<std::string>> finished_studies(Milliseconds at_least, int most = 100);
    /// Takes a done study out of the queue; from then on its files are named by files_to_remove(). none: it is not done
    /// any more (a late image), or not there.
    Result<std::optional<RemovedStudy>> remove_study(const std::string& study_key);
    Result<std::vector<std::string>> files_to_remove(FileRoot root, int most = 1000);
    /// They are gone.
    Result<void> files_removed(FileRoot root, std::span<const std::string> files);

    // --- pipeline
    /// The study that waits longest and is due, or one whose lease ran out. A worker that went silent counts as a
    /// failed try: after `max_attempts` of them (0: no limit) the study is set aside, so that a study that kills its
    /// worker does not do so for ever.
    Result<std::optional<ClaimedStudy>> claim_study(const std::string& worker, Milliseconds lease,
                                                    int max_attempts = 5);
    /// false: the lease was lost, stop the work.
    Result<bool> renew_study(const ClaimedStudy& claim, Milliseconds lease);
    /// Stores the outcome and one outbox row per output and destination, in one transaction. Without a destination or
    /// an output the study is done at once. false: the lease was lost; nothing was stored.
    /// Bug: an output's SOP Instance UID stands twice or belongs to another study or revision.
    Result<bool> finish_study(const ClaimedStudy& claim, const JobOutcome& outcome, std::span<const OutputFile> outputs,
                              std::span<const std::string> destinations);
    /// Retry: back to ready after the policy's pause, set aside after max_attempts. Reject, Config, Bug: set aside.
    Result<bool> fail_study(const ClaimedStudy& claim, const Error& error, const RetryPolicy& policy);
    /// Gives the study back without counting the try: the worker is asked to stop.
    Result<bool> release_study(const ClaimedStudy& claim);

    // --- sender
    /// The output that is due longest, in the order of making; those that failed come behind the fresh ones. Never an
    /// output of a study while one of its earlier revisions is being sent to the same destination.
    /// @param destination  only for this one (a sender thread each keeps a dead PACS from delaying others); empty: any
    Result<std::optional<ClaimedOutput>> claim_output(const std::string& worker, Milliseconds lease,
                                                      const std::string& destination = {});
    Result<bool> renew_output(const ClaimedOutput& claim, Milliseconds lease);
    /// The last output of a study makes the study done. @param note for people: a warning status, "already there"
    /// @param commit  the destination shall be asked to commit it: not done before that
    Result<bool> output_sent(const ClaimedOutput& claim, const std::string& note, bool commit = false);
    Result<bool> output_failed(const ClaimedOutput& claim, const Error& error, const RetryPolicy& policy);
    Result<bool> release_output(const ClaimedOutput& claim);

    // --- storage commitment by a destination (commitment.cpp; see schema.sql)
    /// Notes a request for the outputs of the study whose turn it is: all of them sent, none asked for or the wait for
    /// the answer over. none: nothing is due.
    /// @param transaction_uid  never used before; @param ae_title  of the destination, which alone may answer
    /// @param wait     how long the answer may take; @param policy  of asking again (max_attempts is not used)
    Result<std::optional<CommitmentAsk>> ask_commitment(const std::string& destination, const std::string& ae_title,
                                                        const std::string& transaction_uid, Milliseconds wait,
                                                        const RetryPolicy& policy);
    /// The request did not reach the destination, or was refused. Retry: asked again after a pause, set aside after
    /// give_up_after; anything else: set aside.
    Result<void> commitment_not_asked(const CommitmentAsk& ask, const Error& error);
    /// The destination does not have the service, and that is all right: sent is enough.
    Result<void> commitment_not_offered(const CommitmentAsk& ask, const std::string& why);
    /// The last output that is committed makes the study done. Outputs that the destination does not have are sent
    /// again, under the same UIDs; what else failed, or was left out, is asked again after a pause.
    Result<AnswerOutcome> commitment_answered(const std::string& ae_title, const CommitmentAnswer& answer);
    /// Commitment was switched off for this destination: what waits for it is done.
    Result<void> commitment_not_wanted(const std::string& destination);

    // --- storage commitment for scanners (commitment_owed.cpp)
    /// Stores a request, held by the caller for `lease`. The same request again is the same row, owed once more when it
    /// was reported before. Retry: too many are open.
    Result<OwedCommitment> owe_commitment(const CommitmentRequest& request, Milliseconds lease);
    /// One that nobody holds and that is due.
    Result<std::optional<OwedCommitment>> claim_owed_commitment(Milliseconds lease);
    /// false: lost to somebody else.
    Result<bool> hold_owed_commitment(const OwedCommitment& owed, Milliseconds lease);
    /// Gives it back without counting a try: due at once.
    Result<bool> release_owed_commitment(const OwedCommitment& owed);
    Result<bool> commitment_reported(const OwedCommitment& owed);
    /// Due again after the policy's pause; given up after give_up_after (since the request). @return false: lost
    Result<bool> commitment_not_reported(const OwedCommitment& owed, const Error& error, const RetryPolicy& policy);
    /// The same references, each with reason 0 (stored), 0x0112 (no such instance) or 0x0119 (there, but of another
    /// SOP class). Only what the queue knows counts as stored.
    Result<std::vector<InstanceReference>> check_stored(std::span<const InstanceReference> references);

    // --- both
    /// At the start of the only process that works under this name: whatever a former process of that name held can be
    /// claimed at once, without waiting for the lease to run out. @return how many leases ended
    Result<int> take_over(const std::string& worker);

    // --- operator
    Result<QueueStatus> status();
    Result<QueueDepths> depths();
    Result<std::vector<StudyRow>> studies(int newest = 100);
    Result<std::optional<StudyRow>> study(const std::string& study_key);
    Result<std::vector<InstanceRow>> instances_of(const std::string& study_key);
    /// Of every revision, oldest first.
    Result<std::vector<OutputRow>> outputs_of(const std::string& study_key);
    Result<std::string> result_json_of(const std::string& study_key);
    /// The newest events, oldest first.
    Result<std::vector<EventRow>> events_of(const std::string& study_key, int newest = 100);
    /// Puts a study that was set aside (or is waiting) back to ready, and its set-aside outputs back to waiting; a
    /// study whose result is there already only sends again. A done study with late images that were only kept begins a
    /// new revision. Reject: the study is receiving, being worked on, or done with all its images.
    Result<void> retry(const std::string& study_key);

    struct State;  ///< in session.h, for the parts of this folder

private:
    explicit Queue(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
