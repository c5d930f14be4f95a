import { ContextState, FunctionRequest, FunctionState } from '../spec/index.js';

/**
 * What a request in CTL0.fn_gsr does in each state. SDXI 1.0 §4.1, ref §3.2; silent spots: S-11, S-90.
 * A pair that is not listed changes nothing but the read-back of fn_gsr.
 */
export const FUNCTION_TRANSITIONS: Readonly<Record<FunctionState, Readonly<Partial<Record<FunctionRequest, FunctionState>>>>> = {
  [FunctionState.STOP]: {
    [FunctionRequest.ACTIVE]: FunctionState.INIT,
  },
  [FunctionState.INIT]: {
    [FunctionRequest.RESET]: FunctionState.STOPG_HD,
    [FunctionRequest.STOP_SF]: FunctionState.STOPG_SF,
    [FunctionRequest.STOP_HD]: FunctionState.STOPG_HD,
  },
  [FunctionState.ACTIVE]: {
    [FunctionRequest.RESET]: FunctionState.STOPG_HD,
    [FunctionRequest.STOP_SF]: FunctionState.STOPG_SF,
    [FunctionRequest.STOP_HD]: FunctionState.STOPG_HD,
  },
  [FunctionState.STOPG_SF]: {
    [FunctionRequest.RESET]: FunctionState.STOPG_HD,
    [FunctionRequest.STOP_HD]: FunctionState.STOPG_HD,
  },
  [FunctionState.STOPG_HD]: {},
  [FunctionState.ERROR]: {
    [FunctionRequest.RESET]: FunctionState.STOP,
  },
};

/** What can happen to a context of the running set. Ref §6.5. */
export type ContextEvent = 'stopSoftware' | 'stopFunction' | 'stopped' | 'error' | 'functionError';

/**
 * What the function writes into CXT_STS.state for a context that it runs. Ref §6.5, S-82. How a context gets into the
 * running set (jump start, CXT_START) is {@link START_RESULT}.
 */
export const CONTEXT_TRANSITIONS: Readonly<Record<number, Readonly<Partial<Record<ContextEvent, ContextState>>>>> = {
  [ContextState.RUN]: {
    stopSoftware: ContextState.STOPG_SW,
    stopFunction: ContextState.STOPG_FN,
    error: ContextState.ERR_FN,
    functionError: ContextState.STOP_FN,
  },
  [ContextState.STOPG_SW]: {
    stopFunction: ContextState.STOPG_FN,
    stopped: ContextState.STOP_SW,
    error: ContextState.ERR_FN,
    functionError: ContextState.STOP_FN,
  },
  [ContextState.STOPG_FN]: {
    stopped: ContextState.STOP_FN,
    error: ContextState.ERR_FN,
    functionError: ContextState.STOP_FN,
  },
};

/** What CXT_START does with a context that is not in a stop of its own: run it, nothing (it runs), or refuse. Ref §5.6, S-25, S-81. */
export const START_RESULT: Readonly<Record<number, { normal: 'run' | 'none' | 'refuse'; resume: 'run' | 'none' | 'refuse' }>> = {
  [ContextState.STOP_SW]: { normal: 'run', resume: 'run' },
  [ContextState.RUN]: { normal: 'none', resume: 'none' },
  [ContextState.STOPG_SW]: { normal: 'run', resume: 'run' },
  [ContextState.STOP_FN]: { normal: 'run', resume: 'run' },
  [ContextState.STOPG_FN]: { normal: 'run', resume: 'run' },
  [ContextState.ERR_FN]: { normal: 'refuse', resume: 'run' },
};
