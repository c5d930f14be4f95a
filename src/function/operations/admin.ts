import { Access } from '../../memory/address-space.js';
import { AdminOp, ContextState, ErrorStep, FunctionState, SubStep, SyncFilter, TWO32 } from '../../spec/index.js';
import type { Range } from '../cache.js';
import { type FunctionContext, Work } from '../context.js';
import { type Core, Outcome } from '../core.js';
import { START_RESULT } from '../state.js';
import { readStatus, Walk, walkTables } from '../tables.js';

/** Contexts that one turn of an admin operation looks at, so that a range of 65,536 holds nobody up. */
const CONTEXTS_PER_TURN = 64;

/** What the admin group needs of the scheduler. */
export interface AdminHost {
  /** Puts a context into the running set and in line for a look at its Write_Index. */
  startContext(context: FunctionContext): void;
  /** Begins a stop on behalf of software; does nothing for a context that is not running or stopping already (S-82). */
  stopContext(context: FunctionContext, hard: boolean): void;
  ringDoorbell(context: number, value: number): void;
}

/** What an administrative operation acts on: the function that executes it, or one of its virtual functions (S-55). */
export interface AdminTarget {
  readonly core: Core;
  readonly host: AdminHost;
}

// vflags bits within dword 1 of the descriptor (byte 5 is bits 15:8).
const VF = 0x8000;
const DB_VALUE_VALID = 0x4000;
const HARD_STOP = 0x2000;

const EVERY_CONTEXT: Range = { first: 0, last: 0xffff };

function contextRange({ descriptor }: FunctionContext): Range {
  return { first: descriptor[2] & 0xffff, last: descriptor[2] >>> 16 };
}

function keyRange({ descriptor }: FunctionContext): Range {
  return { first: descriptor[3] & 0xffff, last: descriptor[3] >>> 16 };
}

/** ADM_INTR: the vector stands in the descriptor (S-26). */
function vectorOf({ descriptor }: FunctionContext): number {
  return descriptor[3] & 0x7ff;
}

function isMalformed({ first, last }: Range): boolean {
  return first > last;
}

/** Running contexts of a range, in ascending order. */
function* runningIn(core: Core, { first, last }: Range): Generator<FunctionContext> {
  const inside = [...core.contexts.values()].filter((c) => c.running && c.number >= first && c.number <= last);
  yield* inside.sort((a, b) => a.number - b.number);
}

/** The virtual function that a descriptor with vf = 1 names; undefined when there is none (S-96). */
function virtualTarget(core: Core, { descriptor }: FunctionContext): AdminTarget | undefined {
  return core.virtualFunctions[(descriptor[1] >>> 16) - 1];
}

/** True when the body of an admin descriptor cannot be acted upon at all (step 7 / sub 3): ref §5.6, S-27, S-26. */
function isBodyMalformed(target: Core, admin: FunctionContext, operation: number): boolean {
  switch (operation) {
    case AdminOp.CXT_START_NM:
    case AdminOp.CXT_START_RS:
    case AdminOp.CXT_STOP:
    case AdminOp.CXT_UPD:
      return isMalformed(contextRange(admin));
    case AdminOp.AKEY_UPD:
      return isMalformed(contextRange(admin)) || isMalformed(keyRange(admin));
    case AdminOp.RKEY_UPD:
      return isMalformed(keyRange(admin));
    case AdminOp.SYNC: {
      const filter = admin.descriptor[1] & 7;
      if (filter > SyncFilter.FN) return true;
      if (filter === SyncFilter.AKEY && isMalformed(keyRange(admin))) return true;
      if (filter === SyncFilter.RKEY) return isMalformed(keyRange(admin));
      return filter !== SyncFilter.FN && isMalformed(contextRange(admin));
    }
    case AdminOp.ADM_INTR:
      return vectorOf(admin) >= target.ports.interrupts.vectors;
    default:
      return false;
  }
}

/** The context to name when the virtual function itself cannot be worked on: the first of the range, 0 where there is none (S-115). */
function namedContext(admin: FunctionContext, operation: number): number {
  const filter = admin.descriptor[1] & 7;
  const none =
    operation === AdminOp.FN_UPD ||
    operation === AdminOp.RKEY_UPD ||
    operation === AdminOp.ADM_INTR ||
    (operation === AdminOp.SYNC && (filter === SyncFilter.RKEY || filter === SyncFilter.FN));
  return none ? 0 : contextRange(admin).first;
}

/** Any operation of the administrative group (0x002), on context 0. SDXI 1.0 §3.5, ref §5.6. */
export function administer(core: Core, admin: FunctionContext, operation: number, host: AdminHost): Outcome {
  const begins = admin.work === Work.NONE;
  if (begins) {
    const virtual = (admin.descriptor[1] & VF) !== 0;
    const target = virtual ? virtualTarget(core, admin) : undefined;
    if ((virtual && target === undefined) || isBodyMalformed(target?.core ?? core, admin, operation))
      return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
    admin.work = Work.ADMIN;
    admin.adminNext = contextRange(admin).first;
    admin.adminFailure = undefined;
    admin.adminWaits = undefined;
    admin.adminTarget = target;
  }
  const starts = operation === AdminOp.CXT_START_NM || operation === AdminOp.CXT_START_RS;
  // The function stops: nothing is started any more (S-85).
  if (starts && core.registers.state !== FunctionState.ACTIVE) return Outcome.WAIT;
  const { adminTarget } = admin;
  if (adminTarget === undefined) return operate(core, admin, operation, host);
  // What SYNC waits for is over when the virtual function stops meanwhile; a start is not (S-115).
  if ((begins || starts) && adminTarget.core.registers.state !== FunctionState.ACTIVE) {
    admin.adminFailure ??= { step: ErrorStep.CXT_L2, subStep: SubStep.DVF, context: namedContext(admin, operation) };
    return Outcome.DONE;
  }
  return operate(adminTarget.core, admin, operation, adminTarget.host);
}

/** The operation itself, on the contexts and tables of `core`: those of the function that executes it, or of a virtual one. */
function operate(core: Core, admin: FunctionContext, operation: number, host: AdminHost): Outcome {
  switch (operation) {
    case AdminOp.CXT_START_NM:
    case AdminOp.CXT_START_RS:
      return start(core, admin, operation === AdminOp.CXT_START_RS, host);
    case AdminOp.CXT_STOP:
      return stop(core, admin, host);
    case AdminOp.SYNC:
      return sync(core, admin);
    case AdminOp.ADM_INTR:
      core.raise(vectorOf(admin));
      return Outcome.DONE;
    default:
      update(core, admin, operation);
      return Outcome.DONE;
  }
}

/** CXT_START.NM and .RS over a range, S-83: each context on its own, nothing is rolled back. */
function start(core: Core, admin: FunctionContext, resume: boolean, host: AdminHost): Outcome {
  const { first, last } = contextRange(admin);
  const end = Math.min(last, admin.adminNext + CONTEXTS_PER_TURN - 1);
  const { descriptor } = admin;
  for (; admin.adminNext <= end; admin.adminNext++) {
    const number = admin.adminNext;
    if (number === 0 && admin.adminTarget === undefined) continue; // it is running: it executes this (S-66, S-117)
    const target = core.context(number);
    if (target.running && target.stop !== 'none') return Outcome.WAIT;
    if (startOne(core, target, resume, host)) {
      if ((descriptor[1] & DB_VALUE_VALID) !== 0) host.ringDoorbell(number, descriptor[5] * TWO32 + descriptor[4]);
    } else {
      if (first === last || !core.failure.absent) {
        admin.adminFailure ??= { step: core.failure.step, subStep: core.failure.subStep, context: number };
      }
      core.dropUnused(target); // a range may name 65,536 contexts that do not exist
    }
  }
  return admin.adminNext <= last ? Outcome.MORE : Outcome.DONE;
}

/** @returns false after {@link Core.fail} */
function startOne(core: Core, target: FunctionContext, resume: boolean, host: AdminHost): boolean {
  // A context that runs keeps its working copy: START then only makes it look at Write_Index (O-9).
  if (target.running && !target.idle) {
    host.startContext(target);
    return true;
  }
  if (!walkTables(core, target, Walk.START)) return false;
  const state = readStatus(core, target);
  if (state < 0) return false;
  const result = START_RESULT[state][resume ? 'resume' : 'normal'];
  if (result === 'refuse') {
    core.fail(ErrorStep.CXT_STS, SubStep.DVF);
    return false;
  }
  if (result === 'run') {
    if (!core.writeState(target, ContextState.RUN)) {
      core.failAccess(ErrorStep.CXT_STS, core.memory.of(target.structurePasid), target.statusAddress, 16);
      return false;
    }
  } else {
    if (!core.structure(target, target.statusAddress, 16, Access.WRITE)) {
      core.failAccess(ErrorStep.CXT_STS, core.memory.of(target.structurePasid), target.statusAddress, 16);
      return false;
    }
    target.state = ContextState.RUN;
  }
  target.loadFailureLogged = false;
  host.startContext(target);
  return true;
}

/** CXT_STOP: initiates the stops; others first, context 0 last (S-53). */
function stop(core: Core, admin: FunctionContext, host: AdminHost): Outcome {
  const hard = (admin.descriptor[1] & HARD_STOP) !== 0;
  const range = contextRange(admin);
  for (const target of runningIn(core, range)) if (target.number !== 0) host.stopContext(target, hard);
  if (range.first !== 0) return Outcome.DONE;
  // Context 0 finishes this descriptor first: the engine looks at `stop` after completing it (O-13).
  if (admin.adminTarget === undefined) admin.stop = hard ? 'hard' : 'soft';
  else for (const target of runningIn(core, { first: 0, last: 0 })) host.stopContext(target, hard); // S-117
  return Outcome.DONE;
}

/** SYNC: waits until what its filter names is over. Ref §5.6, S-54, S-108. */
function sync(core: Core, admin: FunctionContext): Outcome {
  const filter = admin.descriptor[1] & 7;
  const range = filter === SyncFilter.FN || filter === SyncFilter.RKEY ? EVERY_CONTEXT : contextRange(admin);
  if (filter === SyncFilter.STOP) {
    for (const context of runningIn(core, range)) if (context !== admin && context.stop !== 'none') return Outcome.WAIT;
    return Outcome.DONE;
  }
  // Operations that were under way when the SYNC began may still use older copies.
  admin.adminWaits ??= [...runningIn(core, range)]
    .filter((c) => c !== admin)
    .map((context) => ({ context, workNumber: context.workNumber }));
  for (const { context, workNumber } of admin.adminWaits) {
    if (!context.running || context.idle || core.contexts.get(context.number) !== context) continue;
    if (context.work !== Work.NONE && context.workNumber === workNumber) return Outcome.WAIT;
    if (context.reload && (filter === SyncFilter.CXT || filter === SyncFilter.FN)) return Outcome.WAIT;
  }
  return Outcome.DONE;
}

/** *_UPD: copies are dropped (ref §4.11); running contexts whose tables have changed load again before their next descriptor (S-108). */
function update(core: Core, admin: FunctionContext, operation: number): void {
  const { contexts, copies, registers } = core;
  if (operation === AdminOp.AKEY_UPD) {
    copies?.akeysChanged(contextRange(admin), keyRange(admin));
    return;
  }
  // Operations of other functions that are under way under an older key end at their next slice, so SYNC need not wait for them.
  if (operation === AdminOp.RKEY_UPD || operation === AdminOp.FN_UPD) core.revoke();
  if (operation === AdminOp.RKEY_UPD) {
    copies?.rkeysChanged(keyRange(admin));
    return;
  }
  const range = operation === AdminOp.FN_UPD ? EVERY_CONTEXT : contextRange(admin);
  if (operation === AdminOp.FN_UPD) copies?.functionChanged(registers);
  else copies?.contextsChanged(range, admin.descriptor[1] & 7);
  for (const context of contexts.values())
    if (context.running && context.number >= range.first && context.number <= range.last) context.reload = true;
}
