/* All kernels in one source, for nvcc and NVRTC. */
#include "server/backend/cudnn/kernels/conv.c"
#include "server/backend/cudnn/kernels/element.c"
#include "server/backend/cudnn/kernels/group.c"
#include "server/backend/cudnn/kernels/images.c"
#include "server/backend/cudnn/kernels/loss.c"
#include "server/backend/cudnn/kernels/norm.c"
#include "server/backend/cudnn/kernels/update.c"
#include "server/backend/cudnn/kernels/window.c"
