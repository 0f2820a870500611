#include "tests/scp/queue/queue_fixture.h"
