// Objects and records as a federation's server sends them.
#include "fedclient/flower/objects.h"
#include "fedclient/flower/records.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;
using namespace cardionode::fed;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = fuzz::text_of(data, size);
    const auto head = parse_object_head(text);
    const auto object = parse_object(text);
    CARDIONODE_PROMISE(!object || head);
    if (!object) return 0;
    CARDIONODE_PROMISE(object->body.size() == object->head.body_bytes);
    // One spelling alone: otherwise one content would have two ids.
    CARDIONODE_PROMISE(make_object(object->head.type, object->head.children, object->body) == text);
    if (const auto names = parse_name_object(*object)) {
        for (const auto& [name, id] : *names) CARDIONODE_PROMISE(is_object_id(id));
    }
    if (const auto record = parse_record_object(*object)) {
        if (object->head.type == ObjectType::ConfigRecord) (void)parse_config_body(config_body(*record));
        else CARDIONODE_PROMISE(metric_body(*record).ok());
    }
    return 0;
}
