import { Access, type AddressSpace, type Mapping } from '../../memory/address-space.js';
import { ErrorStep, REPCOPY_BLOCK, SubStep, TWO32, WRT_IMM_MAX } from '../../spec/index.js';
import { resolveSpace, revokedPeer } from '../access.js';
import { type FunctionContext, Work } from '../context.js';
import { type Core, Outcome } from '../core.js';

/** Most bytes that one turn moves (S-45, S-88). */
export const SLICE_BYTES = 256 * 1024;

/**
 * Up to here a loop over 8-byte elements beats the built-in copies, which cost a call (one window) or a call and a new view
 * (two windows). V8 compiles the loop to plain 64-bit moves: no BigInt is ever made.
 */
const LOOP_BYTES = 64;
const LOOP_BYTES_ACROSS = 160;

/** Copies bytes between two mappings; ranges were checked, overlap inside one window is handled like memmove. */
function moveBytes(from: Mapping, fromAddress: number, to: Mapping, toAddress: number, length: number): void {
  const s = fromAddress + from.shift;
  const d = toAddress + to.shift;
  const sameWindow = from.u8 === to.u8;
  if (
    length <= (sameWindow ? LOOP_BYTES : LOOP_BYTES_ACROSS) &&
    ((s | d | length) & 7) === 0 &&
    (!sameWindow || d <= s || d >= s + length)
  ) {
    const source = from.i64;
    const destination = to.i64;
    const end = (s + length) >>> 3;
    for (let i = s >>> 3, j = d >>> 3; i < end; i++, j++) destination[j] = source[i];
  } else if (sameWindow) {
    to.u8.copyWithin(d, s, s + length);
  } else {
    to.u8.set(from.u8.subarray(s, s + length), d);
  }
}

/** The mapping of one side of a copy at `address`: the remembered one, else looked up. */
function sourceAt(context: FunctionContext, space: AddressSpace, address: number): Mapping | undefined {
  const { sourceMap } = context;
  if (context.sourceMapSpace === space && address >= sourceMap.start && address < sourceMap.end) return sourceMap;
  const map = space.at(address);
  if (!map) return undefined;
  context.sourceMap = map;
  context.sourceMapSpace = space;
  return map;
}

function destinationAt(context: FunctionContext, space: AddressSpace, address: number): Mapping | undefined {
  const { destinationMap } = context;
  if (context.destinationMapSpace === space && address >= destinationMap.start && address < destinationMap.end) return destinationMap;
  const map = space.at(address);
  if (!map) return undefined;
  context.destinationMap = map;
  context.destinationMapSpace = space;
  return map;
}

/** The mapping that allows a byte of data to be accessed, whatever a watch makes of it. */
function dataAt(space: AddressSpace | undefined, address: number, access: number): Mapping | undefined {
  const map = space?.at(address);
  return map?.holds(address, access) ? map : undefined;
}

/** Notes the failure of a data buffer at one address (step 10). */
function failBuffer(core: Core, space: AddressSpace | undefined, address: number, operand: number): typeof Outcome.FAILED {
  return core.failAccess(ErrorStep.DSC_BUF, space, address, 1, operand);
}

/** Notes that bytes of a data buffer could be reached, and did not come or go: their access is refused. */
function failTransfer(core: Core, address: number, operand: number): typeof Outcome.FAILED {
  return core.fail(ErrorStep.DSC_BUF, SubStep.DAF, operand, address);
}

/** The function that an operand lies in stopped or took its consent back in the middle of the operation: the access is refused (S-99, S-112). */
function failStopped(core: Core, context: FunctionContext, operand: number): typeof Outcome.FAILED {
  const address = (operand === 0 ? context.sourceAddress : context.destinationAddress) + context.done;
  return core.fail(ErrorStep.DSC_BUF, SubStep.DAF, operand, address);
}

/** size field of the descriptor: bytes − 1. */
function sizeOf(context: FunctionContext): number {
  return context.descriptor[1] + 1;
}

/**
 * The hot path of COPY: both operands under one AKey, each side inside one mapping, at most one slice. Reads each dword of
 * the slot once, straight from the ring.
 * @returns bytes copied; 0 when this is not that case, nothing has happened, and {@link copy} has to judge
 */
export function copyAtOnce(core: Core, context: FunctionContext, slot: Uint32Array, word: number): number {
  const size = slot[word + 1] + 1;
  const akeys = slot[word + 3];
  const akey = akeys & 0xffff;
  if (size > SLICE_BYTES || size > context.maxBytes || akeys >>> 16 !== akey) return 0;
  if (!resolveSpace(core, context, akey, 0)) return 0;
  const space = context.source;
  if (space === undefined) return 0;
  const from = slot[word + 5] * TWO32 + slot[word + 4];
  const to = slot[word + 7] * TWO32 + slot[word + 6];
  const sourceMap = sourceAt(context, space, from);
  const destinationMap = destinationAt(context, space, to);
  if (sourceMap === undefined || destinationMap === undefined) return 0;
  if (size > sourceMap.end - from || size > destinationMap.end - to) return 0;
  if ((sourceMap.access & Access.READ) === 0 || (destinationMap.access & Access.WRITE) === 0) return 0;
  if (sourceMap.watch !== undefined || destinationMap.watch !== undefined) return 0;
  moveBytes(sourceMap, from, destinationMap, to, size);
  core.counters.bytes += size;
  return size;
}

/** COPY, SDXI 1.0 table 6-8, ref §5.3. */
export function copy(core: Core, context: FunctionContext): Outcome {
  const { descriptor } = context;
  const size = descriptor[1] + 1;
  if (size > context.maxBytes) return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  const akeys = descriptor[3];
  const akey0 = akeys & 0xffff;
  const akey1 = akeys >>> 16;
  if (!resolveSpace(core, context, akey0, 0)) return Outcome.FAILED;
  if (akey1 === akey0) {
    context.destination = context.source;
    context.destinationPeer = context.sourcePeer;
    context.destinationEpoch = context.sourceEpoch;
  } else if (!resolveSpace(core, context, akey1, 1)) return Outcome.FAILED;

  const from = descriptor[5] * TWO32 + descriptor[4];
  const to = descriptor[7] * TWO32 + descriptor[6];
  const { source, destination } = context;
  context.sourceAddress = from;
  context.destinationAddress = to;
  context.total = size;
  context.done = 0;
  context.backward = source === destination && to > from && to < from + size;
  context.measured = 0;
  context.cut = undefined;
  return copySlice(core, context);
}

/** Mappings of each side that one turn looks at before a backward copy begins. */
const MAPPINGS_PER_TURN = 256;

/**
 * A copy that runs from the end must still move nothing beyond the first byte that cannot be accessed (S-41): before it begins,
 * it is shortened to what can, and fails there once that is moved. A guest decides how many mappings that concerns, so a turn
 * looks at some of them only.
 * @returns true when all have been looked at
 */
function measure(core: Core, context: FunctionContext, source: AddressSpace, destination: AddressSpace): boolean {
  for (let looks = 0; looks < MAPPINGS_PER_TURN && context.measured < context.total; looks++) {
    const from = context.sourceAddress + context.measured;
    const to = context.destinationAddress + context.measured;
    const sourceMap = dataAt(source, from, Access.READ);
    const destinationMap = dataAt(destination, to, Access.WRITE);
    if (!sourceMap || !destinationMap) {
      context.total = context.measured;
      // Why, as it is now: by the time of the report the hole may be mapped.
      failAt(core, context, source, destination, context.measured);
      const { subStep, operand, address } = core.failure;
      context.cut = { subStep, operand, address };
    } else context.measured += Math.min(context.total - context.measured, sourceMap.end - from, destinationMap.end - to);
  }
  return context.measured === context.total;
}

/** Moves the next slice of a copy. */
export function copySlice(core: Core, context: FunctionContext): Outcome {
  context.work = Work.COPY;
  const gone = revokedPeer(context);
  if (gone >= 0) return failStopped(core, context, gone);
  const { source, destination } = context;
  if (!source) return failBuffer(core, undefined, context.sourceAddress, 0);
  if (!destination) {
    // The source is read before the destination is written (S-44).
    const from = context.sourceAddress;
    const readable = dataAt(source, from, Access.READ) !== undefined;
    return readable ? failBuffer(core, undefined, context.destinationAddress, 1) : failBuffer(core, source, from, 0);
  }
  if (context.backward && !measure(core, context, source, destination)) return Outcome.MORE;
  const sliceEnd = Math.min(context.done + SLICE_BYTES, context.total);
  while (context.done < sliceEnd) {
    const left = sliceEnd - context.done;
    const moved = context.backward
      ? copyPieceBackward(core, context, source, destination, left)
      : copyPiece(core, context, source, destination, left);
    if (moved < 0) return Outcome.FAILED;
    context.done += moved;
    core.counters.bytes += moved;
  }
  if (context.done < context.total) return Outcome.MORE;
  // A backward copy was cut short at a hole: report it now, as the forward direction would have.
  const { cut } = context;
  if (cut !== undefined && context.total < sizeOf(context)) return core.fail(ErrorStep.DSC_BUF, cut.subStep, cut.operand, cut.address);
  return Outcome.DONE;
}

/** Moves a piece, and asks and tells whoever watches the two mappings. @returns its length, or -1 after {@link Core.fail} */
function movePiece(core: Core, from: Mapping, fromAddress: number, to: Mapping, toAddress: number, length: number): number {
  if (!from.fetch(fromAddress, length)) {
    failTransfer(core, fromAddress, 0);
    return -1;
  }
  moveBytes(from, fromAddress, to, toAddress, length);
  if (to.sent(toAddress, length)) return length;
  failTransfer(core, toAddress, 1);
  return -1;
}

/** Copies one piece that lies in one mapping on each side. @returns its length, or -1 after {@link Core.fail} */
function copyPiece(core: Core, context: FunctionContext, source: AddressSpace, destination: AddressSpace, left: number): number {
  const from = context.sourceAddress + context.done;
  const to = context.destinationAddress + context.done;
  const sourceMap = sourceAt(context, source, from);
  const destinationMap = destinationAt(context, destination, to);
  if (!sourceMap?.holds(from, Access.READ) || !destinationMap?.holds(to, Access.WRITE)) {
    failAt(core, context, source, destination, context.done);
    return -1;
  }
  const length = Math.min(left, sourceMap.end - from, destinationMap.end - to);
  return movePiece(core, sourceMap, from, destinationMap, to, length);
}

/** As {@link copyPiece}, the last piece that is still to be moved. */
function copyPieceBackward(core: Core, context: FunctionContext, source: AddressSpace, destination: AddressSpace, left: number): number {
  const end = context.total - context.done;
  const from = context.sourceAddress + end;
  const to = context.destinationAddress + end;
  const sourceMap = sourceAt(context, source, from - 1);
  const destinationMap = destinationAt(context, destination, to - 1);
  if (!sourceMap?.holds(from - 1, Access.READ) || !destinationMap?.holds(to - 1, Access.WRITE)) {
    failAt(core, context, source, destination, end - 1);
    return -1;
  }
  const length = Math.min(left, from - sourceMap.start, to - destinationMap.start);
  return movePiece(core, sourceMap, from - length, destinationMap, to - length, length);
}

/** Which side fails at this offset: data read before data write (S-44). */
function failAt(
  core: Core,
  context: FunctionContext,
  source: AddressSpace,
  destination: AddressSpace,
  offset: number,
): typeof Outcome.FAILED {
  const from = context.sourceAddress + offset;
  if (!dataAt(source, from, Access.READ)) return failBuffer(core, source, from, 0);
  return failBuffer(core, destination, context.destinationAddress + offset, 1);
}

/**
 * REPCOPY: 4 KiB repeated over the destination. Ref §5.3, S-22. The block is read first (S-106).
 */
export function repcopy(core: Core, context: FunctionContext): Outcome {
  const { descriptor } = context;
  const size = sizeOf(context);
  if (size > context.maxBytes) return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  if (!resolveSpace(core, context, descriptor[3] & 0xffff, 0)) return Outcome.FAILED;
  if (!resolveSpace(core, context, descriptor[3] >>> 16, 1)) return Outcome.FAILED;
  const from = descriptor[5] * TWO32 + descriptor[4];
  if (!readBytes(core, context, context.source, from, REPCOPY_BLOCK)) return Outcome.FAILED;
  context.sourcePeer = undefined; // the block is all that was needed of the source (S-106)
  context.destinationAddress = descriptor[7] * TWO32 + descriptor[6];
  context.total = size;
  context.done = 0;
  context.uniform = size > UNIFORM_BYTES ? uniformByte(context.block as Uint8Array) : -1;
  return fillSlice(core, context);
}

/** A fill of at least this size is worth a look whether its block is one byte repeated. */
const UNIFORM_BYTES = 4 * REPCOPY_BLOCK;

/** The byte that a block consists of (zeroing memory is what REPCOPY is there for), or -1. */
function uniformByte(block: Uint8Array): number {
  // Compared with itself, one byte further on: memcmp does in 0.2 µs what takes a loop 4 µs.
  return Buffer.compare(block.subarray(1), block.subarray(0, block.length - 1)) === 0 ? block[0] : -1;
}

/** Reads the operand 0 of a REPCOPY into the context's private block. */
function readBytes(core: Core, context: FunctionContext, space: AddressSpace | undefined, address: number, length: number): boolean {
  context.block ??= new Uint8Array(REPCOPY_BLOCK);
  if (!space) {
    failBuffer(core, undefined, address, 0);
    return false;
  }
  for (let done = 0; done < length; ) {
    const map = dataAt(space, address + done, Access.READ);
    if (!map) {
      failBuffer(core, space, address + done, 0);
      return false;
    }
    const piece = Math.min(length - done, map.end - address - done);
    if (!map.fetch(address + done, piece)) {
      failTransfer(core, address + done, 0);
      return false;
    }
    const start = address + done + map.shift;
    context.block.set(map.u8.subarray(start, start + piece), done);
    done += piece;
  }
  return true;
}

/** Fills the next slice of a REPCOPY's destination. */
export function fillSlice(core: Core, context: FunctionContext): Outcome {
  context.work = Work.FILL;
  const gone = revokedPeer(context);
  if (gone >= 0) return failStopped(core, context, gone);
  const space = context.destination;
  if (!space) return failBuffer(core, undefined, context.destinationAddress, 1);
  const block = context.block as Uint8Array;
  const sliceEnd = Math.min(context.done + SLICE_BYTES, context.total);
  while (context.done < sliceEnd) {
    const to = context.destinationAddress + context.done;
    const map = destinationAt(context, space, to);
    if (!map?.holds(to, Access.WRITE)) return failBuffer(core, space, to, 1);
    const phase = context.done % REPCOPY_BLOCK;
    const room = Math.min(sliceEnd - context.done, map.end - to);
    const start = to + map.shift;
    let length = room;
    if (context.uniform >= 0) {
      map.u8.fill(context.uniform, start, start + room); // twice as fast as copying the block: nothing is read
    } else {
      length = Math.min(room, REPCOPY_BLOCK - phase);
      map.u8.set(length === REPCOPY_BLOCK ? block : block.subarray(phase, phase + length), start);
    }
    if (!map.sent(to, length)) return failTransfer(core, to, 1);
    context.done += length;
    core.counters.bytes += length;
  }
  return context.done < context.total ? Outcome.MORE : Outcome.DONE;
}

/** Immediate data starts at byte 24 of the descriptor (S-21). */
const IMMEDIATE = 24;

/** WRT_IMM: 1 … 32 bytes out of the descriptor itself. Ref §5.3, S-21. */
export function writeImmediate(core: Core, context: FunctionContext): Outcome {
  const { descriptor } = context;
  const size = sizeOf(context);
  if (size > WRT_IMM_MAX) return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  if (!resolveSpace(core, context, descriptor[3] & 0xffff, 0)) return Outcome.FAILED;
  const space = context.source;
  const to = descriptor[5] * TWO32 + descriptor[4];
  const data = new Uint8Array(descriptor.buffer, IMMEDIATE, size);
  for (let done = 0; done < size; ) {
    const map = dataAt(space, to + done, Access.WRITE);
    if (!map) return failBuffer(core, space, to + done, 0);
    const piece = Math.min(size - done, map.end - to - done);
    map.u8.set(data.subarray(done, done + piece), to + done + map.shift);
    if (!map.sent(to + done, piece)) return failTransfer(core, to + done, 0);
    done += piece;
  }
  core.counters.bytes += size;
  return Outcome.DONE;
}
