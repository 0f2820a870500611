// Faults on order, each for a number of times: what the client must survive.
//
//   drop-connection        the connection is closed before the call is carried out
//   drop-pull-answer       pull-messages is carried out, its answer never sent: the message is lost
//   drop-push-answer       the same for push-messages
//   drop-object-answer     the same for pull-object and push-object
//   http-500, http-502     a call is answered so, not carried out
//   slow[:seconds]         an answer comes so much later (2)
//   stale-connection       a kept connection is closed without a word after an answer
//   truncated-answer       half of an answer's body, then the connection is closed
//   wrong-hash             one byte of a pulled object is another one
//   truncated-chunk        half of a pulled object, in a whole answer
//   lapse-session          a push session ends after its first object
//   late                   push-messages refuses the reply ({"None": 0})
//   lose-object            push-object says stored and keeps nothing
//   offline                a heartbeat is answered with success=false and the node is offline
//   stop-run               the run is stopped when a reply is pushed
//   nan-model              a message carries weights that are not finite
//   outlier-model          a message carries weights that are a million times too large
//   wrong-signature        a message's signature is for another model id
//   other-arch             a message names another architecture
//   other-schema           a message has fed-schema 2
//   skew:seconds           the server's clock is off by so much; the number of times does not count
// Faults of an object or an answer fall on one call each. Written "name=times", "name=times:argument" or "name" (once).
// Thread safety: all methods from any thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

class Faults {
public:
    /// Config: an unknown name or a number that is none; the message lists the names.
    Result<void> order(const std::string& text);
    /// Whether it is due; counts down. The value is its argument, 0 without one.
    std::optional<double> take(const std::string& name);
    /// An argument without counting.
    double argument(const std::string& name) const;
    /// How often each happened.
    std::map<std::string, int> happened() const;
    /// How often each is still due.
    std::map<std::string, int> due() const;

    static const std::vector<std::string>& names();

private:
    struct Ordered {
        int left = 0, happened = 0;
        double argument = 0;
    };
    mutable std::mutex mutex_;
    std::map<std::string, Ordered> faults_;
};

}  // namespace cardionode::fed
