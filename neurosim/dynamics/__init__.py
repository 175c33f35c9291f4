"""The circuit level: lateral inhibition and anti-Hebbian plasticity as rate ODEs."""

from neurosim.dynamics import theory as theory
from neurosim.dynamics.brian import Brian2 as Brian2
from neurosim.dynamics.circuit import InstantResponse as InstantResponse
from neurosim.dynamics.circuit import Plasticity as Plasticity
from neurosim.dynamics.circuit import RateCircuit as RateCircuit
from neurosim.dynamics.circuit import Response as Response
from neurosim.dynamics.collapsed import Collapsed as Collapsed
from neurosim.dynamics.continuous import Continuous as Continuous
from neurosim.dynamics.ensemble import Setting as Setting
from neurosim.dynamics.ensemble import check_setting as check_setting
from neurosim.dynamics.ensemble import simulate_ensemble as simulate_ensemble
from neurosim.dynamics.euler import Euler as Euler
from neurosim.dynamics.inputs import Gaussian as Gaussian
from neurosim.dynamics.inputs import Given as Given
from neurosim.dynamics.inputs import Independent as Independent
from neurosim.dynamics.inputs import InputStream as InputStream
from neurosim.dynamics.inputs import OneHot as OneHot
from neurosim.dynamics.rates import Constant as Constant
from neurosim.dynamics.rates import InverseSqrt as InverseSqrt
from neurosim.dynamics.rates import InverseTime as InverseTime
from neurosim.dynamics.simulate import Rates as Rates
from neurosim.dynamics.simulate import Trajectory as Trajectory
from neurosim.dynamics.simulate import simulate as simulate
from neurosim.dynamics.stability import check_stability as check_stability
from neurosim.dynamics.transfer import Transfer as Transfer
from neurosim.dynamics.transfer import transfer as transfer
