// What monitoring asks for.
#include "scp/queue/session.h"

namespace cardionode {

Result<QueueDepths> Queue::depths() {
    State& state = *state_;
    return state.look("counting the queue", [&] {
        QueueDepths depths;
        for (const StudyState s : {StudyState::Receiving, StudyState::Ready, StudyState::Processing,
                                   StudyState::Sending, StudyState::Done, StudyState::SetAside}) {
            Query row = state.query("SELECT count(*), min(state_since) FROM studies WHERE state = ?", to_string(s));
            row.next();
            depths.studies.push_back({s, row.small(0), row.optional_moment(1)});
        }
        Query row = state.query(
            "SELECT destination, state, count(*), total(attempt > 0), min(made_at), total(commitment IN ('wanted', "
            "'asked')) FROM outbox GROUP BY destination, state ORDER BY destination, state");
        while (row.next()) {
            depths.outputs.push_back(
                {row.text(0), row.text(1), row.small(2), row.small(3), row.moment(4), row.small(5)});
        }
        Query owed = state.query("SELECT count(*), min(asked_at) FROM commitments_owed WHERE state = 'waiting'");
        owed.next();
        depths.commitments_owed = owed.small(0);
        depths.oldest_owed = owed.optional_moment(1);
        return depths;
    });
}

}  // namespace cardionode
