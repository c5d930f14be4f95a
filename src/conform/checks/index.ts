import type { Check } from '../check.js';
import { accessChecks } from './access.js';
import { adminChecks } from './admin.js';
import { startChecks } from './admin-start.js';
import { contextStopChecks } from './admin-stop.js';
import { atomicChecks } from './atomics.js';
import { clientChecks } from './clients.js';
import { completionChecks } from './completion.js';
import { dmaChecks } from './dma.js';
import { errorChecks } from './errors.js';
import { interruptChecks } from './interrupts.js';
import { logChecks } from './log.js';
import { registerChecks } from './registers.js';
import { ringChecks } from './ring.js';
import { scenarioChecks } from './scenarios.js';
import { stateChecks } from './states.js';
import { stopChecks } from './stops.js';
import { structureChecks } from './structures.js';
import { virtualChecks } from './virtual.js';

/** All checks, in the order of the reference. */
export const CHECKS: readonly Check[] = [
  registerChecks,
  stateChecks,
  stopChecks,
  structureChecks,
  completionChecks,
  dmaChecks,
  atomicChecks,
  interruptChecks,
  startChecks,
  contextStopChecks,
  adminChecks,
  ringChecks,
  accessChecks,
  errorChecks,
  logChecks,
  virtualChecks,
  clientChecks,
  scenarioChecks,
].flat();
