// As little of an OpenTelemetry SDK as there can be, in this process: a provider that remembers spans, contexts that follow promises, W3C headers.

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import {
  type Attributes,
  type Context,
  type ContextManager,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type SpanOptions,
  type TextMapPropagator,
  type Tracer,
  trace,
} from '@opentelemetry/api';

export interface SeenSpan {
  name: string;
  kind: number | undefined;
  attributes: Attributes;
  context: SpanContext;
  parentId: string | undefined;
  error: boolean;
  ended: boolean;
}

/** Registers with the API until it is disposed of. */
export function tinyProvider(): { spans: SeenSpan[] } & Disposable {
  const spans: SeenSpan[] = [];
  const tracer = tracerInto(spans);
  trace.setGlobalTracerProvider({ getTracer: () => tracer });
  context.setGlobalContextManager(new FollowingContexts());
  propagation.setGlobalPropagator(w3c);
  return {
    spans,
    [Symbol.dispose]() {
      trace.disable();
      context.disable();
      propagation.disable();
    },
  };
}

function tracerInto(spans: SeenSpan[]): Tracer {
  const startSpan = (name: string, { kind, attributes = {} }: SpanOptions = {}, parent: Context = context.active()): Span => {
    const above = trace.getSpanContext(parent);
    const seen: SeenSpan = {
      name,
      kind,
      attributes: { ...attributes },
      context: { traceId: above?.traceId ?? randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), traceFlags: 1 },
      parentId: above?.spanId,
      error: false,
      ended: false,
    };
    spans.push(seen);
    const span = {
      spanContext: () => seen.context,
      setAttribute(key: string, value: string) {
        seen.attributes[key] = value;
        return span;
      },
      setStatus() {
        seen.error = true;
        return span;
      },
      end() {
        seen.ended = true;
      },
      isRecording: () => true,
    } as unknown as Span;
    return span;
  };
  return {
    startSpan,
    startActiveSpan(name: string, ...rest: unknown[]) {
      const run = rest.pop() as (span: Span) => unknown;
      const [options, parent = context.active()] = rest as [SpanOptions?, Context?];
      const span = startSpan(name, options, parent);
      return context.with(trace.setSpan(parent, span), () => run(span));
    },
  } as Tracer;
}

class FollowingContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();

  active(): Context {
    return this.#storage.getStore() ?? ROOT_CONTEXT;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    held: Context,
    run: F,
    self?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#storage.run(held, () => run.call(self as ThisParameterType<F>, ...args));
  }

  bind<T>(_: Context, target: T): T {
    return target;
  }

  enable(): this {
    return this;
  }

  disable(): this {
    this.#storage.disable();
    return this;
  }
}

const w3c: TextMapPropagator = {
  fields: () => ['traceparent'],
  inject(from, carrier: Record<string, string>) {
    const span = trace.getSpanContext(from);
    if (span !== undefined) carrier['traceparent'] = `00-${span.traceId}-${span.spanId}-01`;
  },
  extract(into, carrier, getter) {
    const text = getter.get(carrier, 'traceparent');
    const [, traceId, spanId] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(String(text)) ?? [];
    if (traceId === undefined || spanId === undefined) return into;
    return trace.setSpanContext(into, { traceId, spanId, traceFlags: 1, isRemote: true });
  },
};
