// What the kernel refused to the data plane, in the words of the API: code, reason, cause and cure.

import { type ErrorCode, type PreconditionViolation, TaplaneError } from '../errors.ts';
import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { BadProgram } from '../packet/bpf.ts';
import { FilterError, LibpcapMissing } from '../sys/pcap.ts';
import { nearestHolders, queueHolders } from '../sys/queue-holders.ts';
import { SysError } from '../sys/sys-error.ts';
import { TUN_DEVICE } from '../sys/tun.ts';

const RETRY_MS = 500;

/** The error for something that failed while doing `verb` on a device. TaplaneErrors pass as they are. */
export function explain(error: unknown, verb: string, device: Device, filterField = 'filter'): TaplaneError {
  if (error instanceof TaplaneError) return error;
  if (error instanceof FilterError || error instanceof BadProgram) {
    const description = error instanceof FilterError ? error.reason : `compiles to a program that is not taken: ${error.message}`;
    return new TaplaneError('INVALID_ARGUMENT', 'FILTER_INVALID', `${filterField}: ${description}`, {
      fields: [{ field: filterField, description }],
    });
  }
  if (error instanceof LibpcapMissing) {
    const description = 'install libpcap (Debian: libpcap0.8) on the node, or leave the filter out';
    return new TaplaneError(
      'FAILED_PRECONDITION',
      'LIBPCAP_MISSING',
      `${verb}: a filter needs libpcap, which is not there; ${description}`,
      {
        preconditions: [{ type: 'LIBRARY', subject: 'libpcap', description }],
      },
    );
  }
  if (!(error instanceof SysError)) {
    return new TaplaneError('INTERNAL', 'INTERNAL', `${verb}: ${error instanceof Error ? error.message : 'unexpected failure'}`, {
      cause: error,
    });
  }
  const { code, reason, hint, precondition } = meaning(error, device);
  return new TaplaneError(code, reason, `${verb}: ${error.message}; ${hint}`, {
    cause: error,
    ...(precondition === undefined ? {} : { preconditions: [precondition] }),
    metadata: { errno: error.code, call: error.call, interface: device.interface },
    ...(code === 'RESOURCE_EXHAUSTED' || code === 'UNAVAILABLE' ? { retryAfterMs: RETRY_MS } : {}),
  });
}

interface Meaning {
  code: ErrorCode;
  reason: string;
  hint: string;
  precondition?: PreconditionViolation;
}

function meaning(error: SysError, device: Device): Meaning {
  if (error.call.startsWith(`open ${TUN_DEVICE}`)) {
    const description = `open answers ${error.code}: load the module tun and give the agent the device`;
    return {
      code: 'FAILED_PRECONDITION',
      reason: 'TUN_DEVICE_UNAVAILABLE',
      hint: 'run taplane doctor',
      precondition: { type: 'DEVICE', subject: TUN_DEVICE, description },
    };
  }
  switch (error.code) {
    case 'EBUSY':
      return busy(device);
    case 'ENODEV':
    case 'ENXIO':
    case 'ENOENT':
      return {
        code: 'FAILED_PRECONDITION',
        reason: 'DEVICE_MISSING',
        hint: 'its device is not there now; see the conditions of the interface',
      };
    case 'EPERM':
    case 'EACCES': {
      const subject = error.call === 'socket' ? 'CAP_NET_RAW' : error.call === 'setns' ? 'CAP_SYS_ADMIN' : 'CAP_NET_ADMIN';
      return {
        code: 'FAILED_PRECONDITION',
        reason: 'CAPABILITY_MISSING',
        hint: `the agent lacks ${subject}: give it to its process (systemd: CapabilityBoundingSet; Kubernetes: securityContext.capabilities)`,
        precondition: { type: 'CAPABILITY', subject, description: 'the agent needs it, effective, in the network namespace of the device' },
      };
    }
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOBUFS':
    case 'ENOMEM':
    case 'ENOSPC':
    case 'E2BIG':
      return {
        code: 'RESOURCE_EXHAUSTED',
        reason: 'KERNEL_LIMIT',
        hint: 'the kernel or the process is at a limit; see ulimit -n and memory',
      };
    case 'EINVAL':
      return { code: 'FAILED_PRECONDITION', reason: 'DEVICE_DIFFERS', hint: 'the device has another shape than its spec says' };
    default:
      return { code: 'INTERNAL', reason: 'KERNEL_ERROR', hint: 'unexpected; please report it with the message' };
  }
}

function busy(device: Device): Meaning {
  const holders = (queueHolders().get(device.interface) ?? []).filter(({ pid }) => pid !== process.pid);
  const names = nearestHolders(holders, device.networkNamespace).map(({ pid, command }) => `${command} (pid ${pid})`);
  const holder = names.length > 0 ? names.join(', ') : 'another program';
  return {
    code: 'FAILED_PRECONDITION',
    reason: 'DEVICE_BUSY',
    hint: `held by ${holder}: end it first, observe instead of consuming, or use an interface with multi_queue`,
    precondition: { type: 'DEVICE', subject: device.interface, description: `its queue is held by ${holder}` },
  };
}
