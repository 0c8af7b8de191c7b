#include "textflag.h"

// func work(x int64) int64
// Of known bytes: the first instruction, of five bytes, may be replaced.
TEXT ·work(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), AX
	IMUL3Q $3, AX, AX
	MOVQ AX, ret+8(FP)
	RET
