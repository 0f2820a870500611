// Copies patient and study attributes of the source, cleaned of what other systems would stumble over.
//
// Used inside pipeline/outputs only. Thread safety: pure functions on their arguments.
#pragma once

#include <string>

class DcmItem;
class DcmTagKey;

namespace cardionode {

/// Specific Character Set of the source as it may stand in an output: terms that the standard does not know are mended
/// ("ISO-IR 100") or left out. Empty: the default repertoire.
std::string usable_character_set(DcmItem& source);

/// Patient, Patient Study and General Study modules. See OutputContext::begin.
void inherit_patient_and_study(DcmItem& source, DcmItem& target);

/// One value of the source that is allowed for its VR, else empty.
std::string clean_value(DcmItem& source, const DcmTagKey& tag);

}  // namespace cardionode
