import { FunctionState, type LiveContext, type LiveOperation, type LiveRunning, type LiveState } from '../spec/index.js';
import { completeLate } from './complete.js';
import { FunctionContext, type TargetFailure, Work } from './context.js';
import type { Core } from './core.js';
import { LOADED } from './live-format.js';

/** What the function itself knows beside its core. */
interface Own {
  initLeft: number;
  resetAtStop: boolean;
  early: number[];
  /** Whether a context is in line for a turn. */
  isQueued(context: FunctionContext): boolean;
}

type Numbers = Record<string, number | boolean>;

/** Everything that a frozen function knows and memory does not say (S-125). */
export function saveLive(core: Core, { initLeft, resetAtStop, early, isQueued }: Own): LiveState {
  const contexts: LiveContext[] = [];
  for (const context of core.contexts.values()) {
    const { number, rung, loadFailureLogged, held } = context;
    const queued = isQueued(context);
    // One that a fault plan holds back in its slot is looked at again, without the plan (S-127).
    const release = held !== 'no';
    if (!context.running && !rung && !queued && !loadFailureLogged) continue;
    contexts.push({
      number,
      queued: queued || release,
      rung: rung || release,
      loadFailureLogged,
      running: context.running ? saveRunning(context) : undefined,
      admin: context.running && context.work === Work.ADMIN ? saveOperation(core, context) : undefined,
    });
  }
  return {
    state: core.registers.state,
    // The plan that holds INIT back stays where it is.
    initLeft: Number.isFinite(initLeft) ? initLeft : 1,
    resetAtStop,
    // A stop that began in INIT forgets them.
    early: core.registers.state === FunctionState.INIT ? early : [],
    contexts,
    completions: core.held.completions,
    copies: core.copies?.save(),
  };
}

function saveRunning(context: FunctionContext): LiveRunning {
  const numbers = context as unknown as Numbers;
  const { state, stop, idle, reload, watched, readIndex, concealed } = context;
  return {
    state,
    stop,
    idle,
    reload,
    watched,
    readIndex,
    concealed: concealed && { ...concealed },
    loaded: Object.fromEntries(Object.keys(LOADED).map((name) => [name, Number(numbers[name])])),
  };
}

function saveOperation(core: Core, context: FunctionContext): LiveOperation {
  const { descriptor, slotAddress, adminNext: next, adminFailure, adminTarget } = context;
  return {
    descriptor: [...descriptor],
    slotAddress,
    next,
    failure: adminFailure && { ...adminFailure },
    virtual: adminTarget === undefined ? 0 : core.virtualFunctions.indexOf(adminTarget) + 1,
  };
}

/**
 * Takes over what {@link saveLive} saved elsewhere and {@link parseLive} has checked. The registers are those of the snapshot already.
 * @param adopt puts a context where it was
 */
export function loadLive(
  core: Core,
  live: LiveState,
  adopt: (context: FunctionContext, place: { queued: boolean; watched: boolean }) => void,
): void {
  for (const saved of live.contexts) {
    const context = new FunctionContext(saved.number);
    context.rung = saved.rung;
    context.loadFailureLogged = saved.loadFailureLogged;
    if (saved.running !== undefined) loadRunning(context, saved.running);
    if (saved.admin !== undefined) loadOperation(core, context, saved.admin);
    adopt(context, { queued: saved.queued, watched: saved.running?.watched ?? false });
  }
  for (const late of live.completions) core.held.hold({ now: 0 }, Number.NEGATIVE_INFINITY, () => completeLate(core, late), late);
  if (live.copies === undefined) core.copies?.activated(core.registers);
  else core.copies?.load(live.copies);
}

function loadRunning(context: FunctionContext, { loaded, concealed, ...running }: LiveRunning): void {
  const { sequential, completionOverwrite, structurePasid, tablePasid, ...numbers } = loaded;
  Object.assign(context, numbers, { running: true, state: running.state, stop: running.stop });
  context.sequential = sequential === 1;
  context.completionOverwrite = completionOverwrite === 1;
  context.place(structurePasid, tablePasid);
  context.idle = running.idle;
  context.reload = running.reload;
  context.readIndex = running.readIndex;
  context.concealed = concealed;
  // Write_Index is read anew before anything is taken.
  context.writeIndex = running.readIndex;
  context.slot = running.readIndex % context.ringSize;
}

function loadOperation(core: Core, context: FunctionContext, { descriptor, slotAddress, next, failure, virtual }: LiveOperation): void {
  context.work = Work.ADMIN;
  context.descriptor.set(descriptor);
  context.slotAddress = slotAddress;
  context.adminNext = next;
  context.adminFailure = failure as TargetFailure | undefined;
  context.adminTarget = virtual === 0 ? undefined : core.virtualFunctions[virtual - 1];
}
