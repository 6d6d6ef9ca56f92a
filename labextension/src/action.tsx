import * as React from 'react';

interface IAction {
  isBusy: boolean;
  said: string;
  say: (text: string) => void;
  run: (todo: () => Promise<unknown>) => void;
}

/** Something that is asked of the server: whether it is under way, and what was said when it failed. */
export function useAction(): IAction {
  const [isBusy, setBusy] = React.useState(false);
  const [said, say] = React.useState('');
  const isGone = React.useRef(false);
  React.useEffect(() => {
    isGone.current = false;
    return () => {
      isGone.current = true;
    };
  }, []);
  const run = (todo: () => Promise<unknown>): void => {
    setBusy(true);
    say('');
    todo()
      .catch((error: Error) => !isGone.current && say(error.message))
      .finally(() => !isGone.current && setBusy(false));
  };
  return { isBusy, said, say, run };
}

export function Said(props: { text: string }): JSX.Element | null {
  return props.text ? (
    <p className="pot-Problem" role="alert">
      {props.text}
    </p>
  ) : null;
}
