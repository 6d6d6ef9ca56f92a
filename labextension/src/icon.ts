import { LabIcon } from '@jupyterlab/ui-components';

/** The mark of PoT Lab: blocks that close a ring around a result. */
export const potIcon = new LabIcon({
  name: 'pot-lab:icon',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 22 22">
  <g class="jp-icon3" fill="#616161">
    <path d="M9 1.5h4v4H9zM9 16.5h4v4H9zM1.5 9h4v4h-4zM16.5 9h4v4h-4z"/>
    <path d="M7.6 4.2 4.2 7.6l1.2 1.2 3.4-3.4zM14.4 4.2l3.4 3.4-1.2 1.2-3.4-3.4zM7.6 17.8l-3.4-3.4 1.2-1.2 3.4 3.4zM14.4 17.8l3.4-3.4-1.2-1.2-3.4 3.4z"/>
    <circle cx="11" cy="11" r="2.4"/>
  </g>
</svg>`
});
