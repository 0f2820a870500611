// The Transport over a folder: files in, files out. For hospitals without a line to the server (somebody carries the
// files), and for adapters to other engines: whoever can write JSON and safetensors can write an adapter.
//
// The format. Names (<id>, files) are 1 to 128 letters, digits and . _ - and begin with a letter or digit; everything
// else is refused. Texts are UTF-8. Nothing that is not named here is read.
//
//   ROOT/in/<id>/                 one message, made by the adapter
//     message.json                {"fed-dir": 1,
//                                  "message_id": "<id>",           the folder's name; never used again for another one
//                                  "type": "train",                train | evaluate | query
//                                  "created_at": 1764300000.0,     seconds since 1970, UTC
//                                  "ttl": 43200.0,                 seconds after which no answer is wanted
//                                  "run_id": 7, "group_id": "r3",  optional; stand in the reply again
//                                  "arrays":  {"arrays": "global.safetensors", "teacher/hps": "hps.safetensors"},
//                                  "configs": {"config": {"fed-schema": 1, "model-id": "...", "round": 3, ...}},
//                                  "metrics": {}}                  all three optional; no other key
//     *.safetensors               the files that "arrays" names
//     SHA256SUMS                  of message.json and of these, as `sha256sum message.json *.safetensors` prints it
//   ROOT/out/<id>/                the reply, made by the node
//     reply.json                  {"fed-dir": 1, "message_id": "<id>", "type", "run_id", "group_id": as they came,
//                                  "arrays": {"arrays": "arrays.safetensors"}, "metrics": {"metrics": {...}},
//                                  "configs": {...}}               or, in place of these three,
//                                  "failure": {"code": 2, "reason": "fedclient:..."}
//     arrays.safetensors          F32 weights, where "arrays" stands
//     SHA256SUMS                  of both
//     taken                       made by the adapter, empty, once it has read the reply; then the folder may go after
//                                 two days. `refused` in its place: the reply is not wanted
//
// Values of a record: number, text, true or false, or a list of one kind of these; a number without '.' is an integer.
// The id of weights that the consortium signs (model id, round, record id: fedclient/privacy/inbound.h) is here the
// SHA-256 of the safetensors file. Either side makes its folder under another name that begins with '.' or ends with
// ".part" and renames it when it is whole; a carrier that cannot rename copies SHA256SUMS last. The node never changes
// or removes anything in `in`; it must be able to write in `out`, and the adapter in `out/<id>` (the node's group can).
// Both folders may be changed by a hostile hand: links are not followed, sizes are bounded, bytes are hashed while they
// are copied to the node's own work folder, and only that copy is used.
//
// A message that is refused is reported once by poll() as Reject, and its reason kept in WORK/.refused; it needs a new
// id to be read again. One whose time is over, or whose reply is out, is passed over in silence. WORK/<id> holds
// message.json, SHA256SUMS, weights/, reply/ and the marks `stored` and `finished`; it may be removed when created_at +
// ttl has passed. Thread safety and errors: as transport.h; there are no heartbeats, and nothing is repeated inside.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/flower/transport.h"

namespace cardionode::fed {

struct DirTransportOptions {
    std::filesystem::path root;  ///< holds `in` and `out`, which must be there: nothing is made of a missing mount
    std::filesystem::path work;  ///< the node's own folder, which nobody else may write
    std::uint64_t largest_message = std::uint64_t{4} << 30;  ///< bytes of all its files
    const Clock* clock = &system_clock();
};

/// Looks at nothing yet. Config: a path is missing.
Result<std::unique_ptr<Transport>> make_dir_transport(DirTransportOptions options);

}  // namespace cardionode::fed
