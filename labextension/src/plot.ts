import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

/** Loaded when the first chart is shown, and not with Lab. */
export default uPlot;
